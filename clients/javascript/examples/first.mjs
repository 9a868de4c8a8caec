// A project and a job; runs it, follows its output, deletes both.
// EVERBELL_SERVER, EVERBELL_API_KEY and EVERBELL_API_SECRET say where and who.
import { Everbell } from '../everbell.js'

const client = new Everbell({ retries: 8 })
await client.health.ready()
const project = await client.projects.create({ name: 'js-shop' })
const job = await client.jobs.create({
  name: 'report',
  project: project.id,
  schedule: '0 6 * * mon-fri',
  timezone: 'Europe/Berlin',
  action: { kind: 'script', text: 'for i in 1 2 3; do echo page $i; sleep 0.2; done' }
})
const run = await client.jobs.run(job, { reason: 'try' })
for await (const event of client.runs.follow(run)) {
  if (event.type === 'output') process.stdout.write(event.text)
  else console.log(event.run.state)
}
for await (const one of client.runs.list({ job, state: ['succeeded'] })) {
  console.log(one.trigger, one.reason)
}
await client.jobs.delete(job, { ifMatch: job.etag })
await client.projects.delete(project)
