// One consumer alone, in ten lines: what it was told and did not end comes again.
import { createClient } from 'redis'

const queue = createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' })
await queue.on('error', console.error).connect()
while (true) {
  const found = await queue.xRead({ key: 'builds_docker', id: '0' }, { COUNT: 10, BLOCK: 5000 })
  for (const entry of found?.[0].messages ?? []) {
    const message = JSON.parse(entry.message.message)
    console.log('built', message.job.name, message.id)
    await queue.xDel('builds_docker', entry.id)
  }
}
