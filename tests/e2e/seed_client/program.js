'use strict'
// A client as the Scheduler0 page shows one: two calls over axios with two headers, one callback.
require('dotenv').config()

const axios = require('axios')
const express = require('express')

const client = axios.create({
  baseURL: process.env.API_ENDPOINT,
  headers: { 'x-api-key': process.env.API_KEY, 'x-secret-key': process.env.API_SECRET }
})
const app = express()

app.post('/callback', (request, response) => {
  console.log('called', request.headers['everbell-slot'])
  response.send('done')
})

const server = app.listen(0, '127.0.0.1', async () => {
  const project = await client.post('/projects', { name: 'calendar', description: 'reminders' })
  const job = await client.post('/jobs', {
    name: 'reminder',
    spec: process.env.SPEC,
    project_uuid: project.data.data.uuid,
    callback_url: `http://localhost:${server.address().port}/callback`
  })
  console.log('created', job.data.data.uuid)
})
