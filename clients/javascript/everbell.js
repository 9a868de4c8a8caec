// Everbell from JavaScript: one class, no dependencies, Node 18 or newer.
// Types and meanings: everbell.d.ts. What it covers is checked against docs/reference/openapi.json.

import { randomUUID } from 'node:crypto'

const PREFIX = '/api/v1'
const DEFAULT_URL = 'http://127.0.0.1:9091'
const RETRY_STATUS = new Set([429, 502, 503, 504])
const TRANSIENT = new Set(['store_unavailable', 'store_error', 'store_conflict', 'not_ready'])
const NEVER_SENT = new Set([
  'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'
])
const LONGEST_RETRY_AFTER_MS = 60_000
// The server says something at least every 15 s; silence this long is a dead connection.
const STREAM_SILENCE_MS = 45_000

export const FINAL_STATES = new Set([
  'succeeded', 'failed', 'timed_out', 'cancelled', 'lost', 'missed', 'skipped'
])

// Operation: [method, path, flags]. `key` takes an Idempotency-Key; `again` may be done twice
// without harm though its method does not say so.
export const OPERATIONS = {
  projects_create: ['POST', '/projects', 'key'],
  projects_list: ['GET', '/projects'],
  projects_get: ['GET', '/projects/{id}'],
  projects_replace: ['PUT', '/projects/{id}'],
  projects_change: ['PATCH', '/projects/{id}', 'again'],
  projects_delete: ['DELETE', '/projects/{id}'],
  credentials_create: ['POST', '/credentials'],
  credentials_list: ['GET', '/credentials'],
  credentials_get: ['GET', '/credentials/{id}'],
  credentials_revoke: ['DELETE', '/credentials/{id}'],
  credentials_rotate: ['POST', '/credentials/{id}/rotate'],
  jobs_create: ['POST', '/jobs', 'key'],
  jobs_apply: ['POST', '/apply', 'again'],
  jobs_list: ['GET', '/jobs'],
  jobs_get: ['GET', '/jobs/{id}'],
  jobs_replace: ['PUT', '/jobs/{id}'],
  jobs_change: ['PATCH', '/jobs/{id}', 'again'],
  jobs_delete: ['DELETE', '/jobs/{id}'],
  jobs_enable: ['POST', '/jobs/{id}/enable', 'again'],
  jobs_disable: ['POST', '/jobs/{id}/disable', 'again'],
  jobs_resolve: ['POST', '/jobs/{id}/resolve', 'again'],
  jobs_skip_next: ['POST', '/jobs/{id}/skip-next'],
  jobs_run_instead: ['POST', '/jobs/{id}/run-instead'],
  jobs_hold: ['POST', '/jobs/{id}/hold'],
  jobs_next: ['GET', '/jobs/{id}/next'],
  jobs_why: ['GET', '/jobs/{id}/why'],
  jobs_backfill: ['POST', '/jobs/{id}/backfill'],
  jobs_run: ['POST', '/jobs/{id}/runs', 'key'],
  runs_list: ['GET', '/runs'],
  runs_get: ['GET', '/runs/{id}'],
  runs_output: ['GET', '/runs/{id}/output'],
  runs_cancel: ['POST', '/runs/{id}/cancel', 'again'],
  runs_retry: ['POST', '/runs/{id}/retry'],
  simulate: ['GET', '/simulate'],
  verify: ['GET', '/verify'],
  holds_create: ['POST', '/holds'],
  holds_list: ['GET', '/holds'],
  holds_release: ['POST', '/holds/{id}/release'],
  limits_list: ['GET', '/limits'],
  limits_get: ['GET', '/limits/{id}'],
  limits_set: ['PUT', '/limits/{id}'],
  limits_delete: ['DELETE', '/limits/{id}'],
  schedules_preview: ['POST', '/schedules/preview', 'again'],
  nodes_list: ['GET', '/nodes'],
  nodes_drain: ['POST', '/nodes/{id}/drain', 'again'],
  nodes_resume: ['POST', '/nodes/{id}/resume', 'again'],
  nodes_remove: ['DELETE', '/nodes/{id}'],
  cluster_get: ['GET', '/cluster'],
  audit_list: ['GET', '/audit'],
  health_live: ['GET', '/healthz'],
  health_ready: ['GET', '/readyz'],
  openapi: ['GET', '/openapi.json']
}

// --- errors --------------------------------------------------------------------------------------

export class EverbellError extends Error {
  constructor (message, hint = '', options = undefined) {
    super(hint ? `${message}\nhint: ${hint}` : message, options)
    this.name = new.target.name
    this.hint = hint
  }
}

/** The server refused: status, code, problem, fields, requestId, retryAfterMs. */
export class ApiError extends EverbellError {
  constructor (status, problem, retryAfterMs) {
    super(problem.detail || problem.title || `the server answered ${status}`, problem.hint)
    this.status = status
    this.code = problem.code || ''
    this.problem = problem
    this.fields = problem.errors || []
    this.suggestions = problem.suggestions || []
    this.requestId = problem.request_id || ''
    this.retryAfterMs = retryAfterMs
  }

  /** JSON pointers of the wrong fields; the address if it is not about fields. */
  get where () {
    return this.fields.length ? this.fields.map(one => one.pointer) : [this.problem.instance || '']
  }
}

export class BadRequest extends ApiError {}
export class Unauthenticated extends ApiError {}
export class Forbidden extends ApiError {}
export class NotFound extends ApiError {}
export class Conflict extends ApiError {}
export class VersionMismatch extends ApiError {}
export class TooLarge extends ApiError {}
export class Invalid extends ApiError {}
/** A schedule text can't be read: position and text. */
export class InvalidSchedule extends Invalid {
  get position () { return this.problem.position }
  get text () { return this.problem.text }
}
export class RateLimited extends ApiError {}
export class ServerFailed extends ApiError {}
/** No connection could be made: nothing was sent. */
export class Unreachable extends EverbellError {}
/** Sent, but no whole answer came: whether it was done is not known. */
export class AnswerLost extends EverbellError {}
/** Not an answer of this API. */
export class AnswerUnreadable extends EverbellError {}
/** The run did not end in time; it goes on. */
export class WaitTimeout extends EverbellError {}

const BY_STATUS = {
  400: BadRequest, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict,
  412: VersionMismatch, 413: TooLarge, 422: Invalid, 429: RateLimited
}

function apiError (status, problem, retryAfterMs) {
  let Kind = BY_STATUS[status] || (status >= 500 ? ServerFailed : ApiError)
  if (problem.code === 'invalid_schedule') Kind = InvalidSchedule
  return new Kind(status, problem, retryAfterMs)
}

async function refusal (answer) {
  let problem = {}
  try { problem = JSON.parse(await answer.text()) } catch { /* not in the form of this API */ }
  if (!problem || typeof problem !== 'object' || !problem.code) {
    const detail = `the server answered ${answer.status}, not in the form of this API`
    problem = { detail, hint: 'is this an Everbell server?' }
  }
  return apiError(answer.status, problem, retryAfter(answer.headers))
}

function retryAfter (headers) {
  const text = headers.get('retry-after')
  if (!text) return undefined
  if (/^\d{1,9}$/.test(text.trim())) return Number(text) * 1000
  const pause = Date.parse(text) - Date.parse(headers.get('date') || '')
  return Number.isNaN(pause) ? undefined : Math.max(0, pause)
}

// --- requests ------------------------------------------------------------------------------------

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

/** An id, uuid or name; of a record, its id. */
const keyOf = it => it !== null && typeof it === 'object' ? it.id : it

function segment (key) {
  const text = String(keyOf(key) ?? '')
  // These do not survive as a part of an address, quoted or not.
  if (['', '.', '..'].includes(text) || text.includes('/')) {
    throw new TypeError(`the name ${JSON.stringify(text)} can't be part of an address; use the id`)
  }
  return encodeURIComponent(text)
}

function queryOf (given) {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue
    if (value instanceof Date) query.set(name, value.toISOString())
    else query.set(name, Array.isArray(value) ? value.join(',') : String(keyOf(value)))
  }
  const text = String(query)
  return text && `?${text}`
}

/** What can be set of a job as it was shown: its names for older programs are left out. */
function definition (job) {
  if (!job || typeof job !== 'object' || !('version' in job)) return job
  const { spec, startdate, callback_url: url, frequency, ...rest } = job
  return { ...rest, project: job.project_uuid }
}

/** How long to wait before repetition `attempt`; what the server asked for is a lower bound. */
function pauseMs (attempt, askedMs) {
  const chance = Math.random()
  if (askedMs !== undefined) return askedMs + chance * 200
  return Math.min(10_000, 200 * 2 ** attempt) * (0.5 + chance / 2)
}

class Core {
  constructor (options) {
    const env = globalThis.process?.env || {}
    const { url, timeoutMs = 30_000, retries = 4, fetch = globalThis.fetch } = options
    let { apiKey, apiSecret } = options
    const given = url || env.EVERBELL_SERVER || DEFAULT_URL
    const base = new URL(given.includes('://') ? given : `http://${given}`)
    // The environment's pair stays a pair: a key that was given needs its own secret.
    if (!apiKey && !apiSecret) [apiKey, apiSecret] = [env.EVERBELL_API_KEY, env.EVERBELL_API_SECRET]
    if (!apiKey !== !apiSecret) throw new TypeError('a key and its secret belong together')
    const path = base.pathname.replace(/\/+$/, '')
    this.url = base.origin + (path.endsWith(PREFIX) ? path : path + PREFIX)
    this.timeoutMs = timeoutMs
    this.retries = retries
    this.fetch = fetch
    // Not to be seen when the client is printed.
    this.headers = () => apiKey ? { 'x-api-key': apiKey, 'x-secret-key': apiSecret } : {}
  }

  request (name, { id, query = {}, body, ifMatch, idempotencyKey, headers = {} } = {}) {
    const [method, path, flag] = OPERATIONS[name]
    const url = this.url + (path.includes('{id}') ? path.replace('{id}', segment(id)) : path) +
      queryOf(query)
    const sent = { accept: 'application/json', ...this.headers(), ...headers }
    if (body !== undefined) sent['content-type'] = 'application/json'
    if (ifMatch !== undefined && ifMatch !== null) {
      if (!ifMatch) throw new TypeError('ifMatch is empty: only get() and changes tell the etag of a project')
      sent['if-match'] = ifMatch
    }
    if (flag === 'key') sent['idempotency-key'] = idempotencyKey || randomUUID()
    const conditional = 'if-match' in sent && !['GET', 'DELETE'].includes(method)
    // A conditional change that was done would meet its own version.
    const again = !conditional && (flag !== undefined || ['GET', 'PUT', 'DELETE'].includes(method))
    // Redirects are not followed: they would be given the key.
    const init = { method, headers: sent, redirect: 'manual' }
    if (body !== undefined) init.body = JSON.stringify(body)
    return { url, init, again }
  }

  async once ({ url, init }, signal, read) {
    try {
      const answer = await this.fetch(url, { ...init, signal })
      return await read(answer)
    } catch (error) {
      if (error instanceof EverbellError) throw error
      throw this.told(`${init.method} ${url}`, error)
    }
  }

  told (what, error) {
    const cause = error.cause || error
    const codes = [cause.code, ...(cause.errors || []).map(one => one.code)]
    const why = cause.message || cause.code || String(error)
    if (codes.some(code => NEVER_SENT.has(code))) {
      const hint = 'is the server running, and the url right?'
      return new Unreachable(`${what}: ${why}`, hint, { cause: error })
    }
    return new AnswerLost(`${what}: ${why}`, 'read again to see whether it was done', { cause: error })
  }

  /** Send, and send again where that can do no harm. Gives what `read` makes of the answer. */
  async send (name, options, read) {
    const request = this.request(name, options)
    let lost = false
    for (let attempt = 0; ; attempt++) {
      let asked
      try {
        return await this.once(request, AbortSignal.timeout(this.timeoutMs), async answer => {
          if (answer.status >= 200 && answer.status < 300) return read(answer)
          throw await refusal(answer)
        })
      } catch (error) {
        if (lost && request.init.method === 'DELETE' && error instanceof NotFound) return undefined
        if (attempt >= this.retries || !worthRepeating(request, error)) throw error
        lost ||= error instanceof AnswerLost
        asked = error.retryAfterMs
      }
      await sleep(pauseMs(attempt, asked))
    }
  }

  async json (name, options) {
    return this.send(name, options, async answer => {
      const text = await answer.text()
      if (!text) return {}
      try {
        const envelope = JSON.parse(text)
        if (name === 'openapi') return { data: envelope }
        if (envelope && 'data' in envelope) {
          for (const it of [envelope.data].flat()) tag(it, answer.headers.get('etag'))
          return envelope
        }
      } catch { /* told below */ }
      throw new AnswerUnreadable('the answer is not in the form of this API',
        'is this an Everbell server?')
    })
  }

  async data (name, options) {
    return (await this.json(name, options))?.data
  }

  async * events (name, options, silenceMs = STREAM_SILENCE_MS) {
    const request = this.request(name, options)
    const stop = new AbortController()
    let timer = setTimeout(() => stop.abort(), silenceMs)
    try {
      const answer = await this.once(request, stop.signal, async answer => {
        if (answer.status !== 200) throw await refusal(answer)
        return answer
      })
      const decoder = new TextDecoder()
      const parser = new Events()
      const reader = answer.body.getReader()
      for (;;) {
        const { done, value } = await reader.read()
          .catch(error => { throw this.told(request.url, error) })
        if (done) return
        clearTimeout(timer)
        timer = setTimeout(() => stop.abort(), silenceMs)
        yield * parser.feed(decoder.decode(value, { stream: true }))
      }
    } finally {
      clearTimeout(timer)
      stop.abort()
    }
  }
}

/** Give a record its ETag, unseen by what prints or sends it; '' where it is not told. */
function tag (it, etag) {
  if (!it || typeof it !== 'object') return
  const value = 'version' in it ? `"${it.version}"` : etag || ''
  Object.defineProperty(it, 'etag', { value })
}

function worthRepeating (request, error) {
  if (error instanceof Unreachable) return true
  if (error instanceof AnswerLost) return request.again
  if (!(error instanceof ApiError) || !RETRY_STATUS.has(error.status)) return false
  if ((error.retryAfterMs || 0) > LONGEST_RETRY_AFTER_MS) return false
  // These say that nothing was done; the other answers are a proxy's, or say that they don't know.
  const nothingDone = error.status === 429 ||
    (error.status === 503 && error.code && error.code !== 'store_unknown_outcome')
  return nothingDone || request.again
}

/** Reads server-sent events out of text that is cut anywhere. */
class Events {
  constructor () {
    this.rest = ''
    this.name = 'message'
    this.id = ''
    this.data = []
  }

  * feed (text) {
    const lines = (this.rest + text).split('\n')
    this.rest = lines.pop()
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
      if (line) {
        this.field(line)
      } else {
        if (this.data.length) yield { name: this.name, id: this.id, data: this.data.join('\n') }
        this.name = 'message'
        this.data = []
      }
    }
  }

  field (line) {
    const at = line.indexOf(':')
    const name = at < 0 ? line : line.slice(0, at)
    const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '')
    if (name === 'event') this.name = value
    else if (name === 'data') this.data.push(value)
    else if (name === 'id') this.id = value
  }
}

/** A list that is fetched page by page while it is read: `for await (const item of list)`. */
class Pages {
  #core
  #name
  #query

  constructor (core, name, query = {}) {
    this.#core = core
    this.#name = name
    this.#query = query
  }

  async first () {
    const { data, page = {} } = await this.#core.json(this.#name, { query: this.#query })
    return { items: data, ...page }
  }

  async * pages () {
    let query = this.#query
    for (;;) {
      const page = await new Pages(this.#core, this.#name, query).first()
      yield page
      const offset = page.offset + page.items.length
      if (page.next) query = { ...query, cursor: page.next }
      else if (page.items.length && offset < page.total) query = { ...query, offset }
      else return
    }
  }

  async * [Symbol.asyncIterator] () {
    for await (const page of this.pages()) yield * page.items
  }
}

// --- what can be asked ---------------------------------------------------------------------------

class Group {
  #core
  constructor (core) { this.#core = core }
  get _core () { return this.#core }
  _data (name, options) { return this.#core.data(name, options) }
  _list (name, query) { return new Pages(this.#core, name, query) }
}

class Projects extends Group {
  create (body, { idempotencyKey } = {}) {
    return this._data('projects_create', { body, idempotencyKey })
  }

  list (query) { return this._list('projects_list', query) }
  get (id) { return this._data('projects_get', { id }) }
  replace (id, body, { ifMatch } = {}) { return this._data('projects_replace', { id, body, ifMatch }) }
  change (id, body, { ifMatch } = {}) { return this._data('projects_change', { id, body, ifMatch }) }
  delete (id, { ifMatch } = {}) { return this._data('projects_delete', { id, ifMatch }) }
}

class Credentials extends Group {
  create (body = {}) { return this._data('credentials_create', { body }) }
  list (query) { return this._list('credentials_list', query) }
  get (id) { return this._data('credentials_get', { id }) }
  revoke (id) { return this._data('credentials_revoke', { id }) }
  rotate (id, body = {}) { return this._data('credentials_rotate', { id, body }) }
}

class Jobs extends Group {
  create (body, { idempotencyKey } = {}) {
    return this._data('jobs_create', { body, idempotencyKey })
  }

  apply (body) { return this._data('jobs_apply', { body }) }
  list (query) { return this._list('jobs_list', query) }
  get (id, { project } = {}) { return this._data('jobs_get', { id, query: { project } }) }

  replace (id, job, { project, ifMatch } = {}) {
    return this._data('jobs_replace', { id, query: { project }, body: definition(job), ifMatch })
  }

  change (id, body, { project, ifMatch } = {}) {
    return this._data('jobs_change', { id, query: { project }, body, ifMatch })
  }

  delete (id, options) { return this.#switch('jobs_delete', id, options) }
  enable (id, options) { return this.#switch('jobs_enable', id, options) }
  disable (id, options) { return this.#switch('jobs_disable', id, options) }
  resolve (id, options) { return this.#switch('jobs_resolve', id, options) }

  skipNext (id, { project, ifMatch, ...body } = {}) {
    return this._data('jobs_skip_next', { id, query: { project }, body, ifMatch })
  }

  runInstead (id, { project, ifMatch, ...body } = {}) {
    return this._data('jobs_run_instead', { id, query: { project }, body, ifMatch })
  }

  hold (id, { project, ...body } = {}) {
    return this._data('jobs_hold', { id, query: { project }, body })
  }

  next (id, { project, n } = {}) { return this._data('jobs_next', { id, query: { project, n } }) }

  why (id, { project, at } = {}) { return this._data('jobs_why', { id, query: { project, at } }) }

  backfill (id, { project, ...body }) {
    return this._data('jobs_backfill', { id, query: { project }, body })
  }

  simulate (query) { return this._data('simulate', { query }) }

  run (id, { project, idempotencyKey, ...body } = {}) {
    return this._data('jobs_run', { id, query: { project }, body, idempotencyKey })
  }

  #switch (name, id, { project, ifMatch } = {}) {
    return this._data(name, { id, query: { project }, ifMatch })
  }
}

class Runs extends Group {
  list (query) { return this._list('runs_list', query) }
  get (id) { return this._data('runs_get', { id }) }
  verify (query) { return this._data('verify', { query }) }
  cancel (id) { return this._data('runs_cancel', { id }) }
  retry (id) { return this._data('runs_retry', { id }) }

  output (id, { attempt, offset } = {}) {
    const options = { id, query: { attempt, offset }, headers: { accept: 'text/plain' } }
    return this._core.send('runs_output', options, async answer => answer.text())
  }

  /** Yields {type: 'output', ...} as it is written and one {type: 'end', run}. */
  async * follow (id, { attempt, after } = {}) {
    // From the first attempt on, whichever is at work now: so nothing depends on the moment.
    let place = after || `${attempt || 1}-0`
    for (let failed = 0; ; failed++) {
      let asked
      try {
        const headers = { accept: 'text/event-stream', 'last-event-id': place }
        const options = { id, query: { follow: true, attempt }, headers }
        for await (const { name, id: seen, data } of this._core.events('runs_output', options)) {
          const value = JSON.parse(data)
          if (name === 'error') {
            throw apiError(value.code === 'unauthenticated' ? 401 : 503, value)
          }
          failed = 0
          if (name === 'output') {
            place = seen
            yield { type: 'output', id: seen, ...value }
          } else if (name === 'end') {
            yield { type: 'end', run: value }
            return
          }
        }
        throw new AnswerLost('the stream ended before the run did')
      } catch (error) {
        const passing = error instanceof Unreachable || error instanceof AnswerLost ||
          RETRY_STATUS.has(error.status) || TRANSIENT.has(error.code)
        if (!passing || failed >= this._core.retries) throw error
        asked = error.retryAfterMs
      }
      await sleep(pauseMs(failed, asked))
    }
  }

  /** Gives the run when it has ended; WaitTimeout after `timeoutMs`. */
  async wait (id, { timeoutMs = Infinity } = {}) {
    const until = performance.now() + timeoutMs
    for (let pause = 50; ; pause = Math.min(1000, pause * 2)) {
      const run = await this.get(id)
      if (FINAL_STATES.has(run.state)) return run
      const left = until - performance.now()
      if (left <= 0) throw new WaitTimeout(`run ${run.id} is still ${run.state}`, 'it goes on; wait again')
      await sleep(Math.min(pause, left))
    }
  }
}

class Holds extends Group {
  create (body) { return this._data('holds_create', { body }) }
  list () { return this._list('holds_list') }
  release (id, body) { return this._data('holds_release', { id, body }) }
}

class Limits extends Group {
  list (query) { return this._list('limits_list', query) }
  get (id, { project } = {}) { return this._data('limits_get', { id, query: { project } }) }
  set (id, body, { project } = {}) { return this._data('limits_set', { id, query: { project }, body }) }
  delete (id, { project } = {}) { return this._data('limits_delete', { id, query: { project } }) }
}

class Schedules extends Group {
  preview (body) { return this._data('schedules_preview', { body }) }
}

class Nodes extends Group {
  list () { return this._list('nodes_list') }
  drain (id, body = {}) { return this._data('nodes_drain', { id, body }) }
  resume (id) { return this._data('nodes_resume', { id }) }
  remove (id) { return this._data('nodes_remove', { id }) }
  cluster () { return this._data('cluster_get') }
}

class Audit extends Group {
  list (query) { return this._list('audit_list', query) }
}

class Health extends Group {
  live () { return this._data('health_live') }
  ready () { return this._data('health_ready') }
  openapi () { return this._data('openapi') }
}

export class Everbell {
  constructor (options = {}) {
    const core = new Core(options)
    this.url = core.url
    this.projects = new Projects(core)
    this.credentials = new Credentials(core)
    this.jobs = new Jobs(core)
    this.runs = new Runs(core)
    this.holds = new Holds(core)
    this.limits = new Limits(core)
    this.schedules = new Schedules(core)
    this.nodes = new Nodes(core)
    this.audit = new Audit(core)
    this.health = new Health(core)
  }
}

export default Everbell
