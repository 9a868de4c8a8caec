// Does what `queue` jobs of the driver `docker` ask for, once per run even if told twice.
import os from 'node:os'
import { createClient } from 'redis'

const [KEY, GROUP, ME] = ['builds_docker', 'builders', `${os.hostname()}-${process.pid}`]
const queue = createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' })
await queue.on('error', console.error).connect()

function build (message) {
  console.log('built', message.job.name, message.id)
}

// First what a consumer that died has left, then new entries.
async function entries () {
  await queue.xGroupCreate(KEY, GROUP, '0', { MKSTREAM: true }).catch(() => {})
  const left = await queue.xAutoClaim(KEY, GROUP, ME, 60000, '0-0')
  if (left.messages.length) return left.messages
  const news = await queue.xReadGroup(GROUP, ME, { key: KEY, id: '>' }, { COUNT: 10, BLOCK: 5000 })
  return news?.[0].messages ?? []
}

while (true) {
  for (const entry of await entries()) {
    const message = JSON.parse(entry.message.message)
    if (!await queue.exists(`done:${message.id}`)) build(message)
    await queue.multi().set(`done:${message.id}`, '1', { EX: 86400 })
      .xAck(KEY, GROUP, entry.id).xDel(KEY, entry.id).exec()
  }
}
