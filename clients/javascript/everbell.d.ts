// What everbell.js gives and takes. The shapes of records are in schemas.d.ts.
import type * as schemas from './schemas.js'

export type * from './schemas.js'

export interface Options {
  /** Default: EVERBELL_SERVER, or http://127.0.0.1:9091. */
  url?: string
  /** Default: EVERBELL_API_KEY and EVERBELL_API_SECRET. */
  apiKey?: string
  apiSecret?: string
  /** Of each attempt. Default: 30,000. */
  timeoutMs?: number
  /** How often a request is sent again after a broken connection, 429 or 503. Default: 4. */
  retries?: number
  fetch?: typeof fetch
}

/** Its ETag, for `ifMatch`; '' where the answer does not tell it (lists of projects). */
export interface Tagged { readonly etag: string }
export type Job = schemas.JobOut & Tagged
export type Project = schemas.ProjectOut & Tagged
export type NewJob = schemas.JobIn | schemas.OlderJobIn

/** An id, a uuid, a name, or the record. */
export type JobRef = number | string | schemas.JobOut
export type ProjectRef = number | string | schemas.ProjectOut
export type RunRef = string | schemas.RunOut
export type Key = number | string | { id: number | string }
type Words = string | readonly string[]
type Instant = string | Date

export interface InProject { project?: ProjectRef }
export interface IfMatch { ifMatch?: string }
export interface Repeatable { idempotencyKey?: string }
export interface Slice { limit?: number, offset?: number }

export interface Page<T> {
  items: T[]
  limit: number
  offset?: number
  total?: number
  next?: string | null
}

/** Fetched page by page while it is read: `for await (const item of list)`. */
export interface Pages<T> extends AsyncIterable<T> {
  first (): Promise<Page<T>>
  pages (): AsyncGenerator<Page<T>>
}

/** A piece of output; `id` is the place after it: `follow(run, { after: id })`. */
export interface OutputEvent {
  type: 'output'
  id: string
  attempt: number
  offset: number
  stream: string
  text: string
}
export interface EndEvent { type: 'end', run: schemas.RunOut }

export interface Projects {
  create (body: schemas.ProjectIn, options?: Repeatable): Promise<Project>
  list (query?: Slice): Pages<Project>
  get (project: ProjectRef): Promise<Project>
  replace (project: ProjectRef, body: schemas.ProjectIn, options?: IfMatch): Promise<Project>
  change (project: ProjectRef, body: schemas.ProjectPatch, options?: IfMatch): Promise<Project>
  delete (project: ProjectRef, options?: IfMatch): Promise<void>
}

export interface Credentials {
  /** The secret is in this answer and nowhere else. */
  create (body?: schemas.CredentialIn): Promise<schemas.CredentialOut>
  list (query?: Slice): Pages<schemas.CredentialOut>
  get (credential: Key): Promise<schemas.CredentialOut>
  revoke (credential: Key): Promise<void>
  rotate (credential: Key, body?: schemas.RotateIn): Promise<schemas.CredentialOut>
}

export interface Jobs {
  create (body: NewJob, options?: Repeatable): Promise<Job>
  create (body: readonly NewJob[], options?: Repeatable): Promise<Job[]>
  apply (body: schemas.ApplyIn): Promise<schemas.PlanOut>
  list (query?: Slice & InProject & {
    name?: string, search?: string, enabled?: boolean, parked?: boolean
  }): Pages<Job>
  get (job: JobRef, options?: InProject): Promise<Job>
  /** A job may be sent back as it was shown. */
  replace (job: JobRef, body: NewJob | schemas.JobOut, options?: InProject & IfMatch): Promise<Job>
  change (job: JobRef, body: schemas.JobPatch, options?: InProject & IfMatch): Promise<Job>
  delete (job: JobRef, options?: InProject & IfMatch): Promise<void>
  enable (job: JobRef, options?: InProject & IfMatch): Promise<Job>
  disable (job: JobRef, options?: InProject & IfMatch): Promise<Job>
  resolve (job: JobRef, options?: InProject & IfMatch): Promise<Job>
  skipNext (job: JobRef, options?: InProject & IfMatch & schemas.SkipIn): Promise<schemas.SkippedOut>
  runInstead (job: JobRef, options?: InProject & IfMatch & schemas.InsteadIn): Promise<schemas.SkippedOut>
  hold (job: JobRef, options?: InProject & schemas.JobHoldIn): Promise<schemas.HoldOut>
  next (job: JobRef, options?: InProject & { n?: number }): Promise<schemas.SlotOut[]>
  why (job: JobRef, options?: InProject & { at?: Instant }): Promise<schemas.WhyOut>
  /** Runs the slots from `from` to `to` that have no successful run; `dry_run` only tells which. */
  backfill (job: JobRef, options: InProject & schemas.BackfillIn): Promise<schemas.BackfillOut>
  /** What an outage would do: `down` is local times of the day `date`, as in '02:00-05:00'. */
  simulate (query: InProject & {
    down: string, date: string, zone?: string, job?: JobRef, takes?: number,
    limit?: number, cursor?: number | string
  }): Promise<schemas.SimulateOut>
  run (job: JobRef, options?: InProject & Repeatable & schemas.RunNow): Promise<schemas.RunOut>
}

export interface Runs {
  list (query?: InProject & {
    job?: JobRef, state?: Words, trigger?: Words, from?: Instant, to?: Instant, node?: string,
    limit?: number, cursor?: string
  }): Pages<schemas.RunOut>
  get (run: RunRef): Promise<schemas.RunOut>
  /** What an attempt (the last one) has written so far. */
  output (run: RunRef, options?: { attempt?: number, offset?: number }): Promise<string>
  /** The output as it is written, over broken connections and all attempts, and the end. */
  follow (run: RunRef, options?: { attempt?: number, after?: string }): AsyncGenerator<OutputEvent | EndEvent>
  /** The run when it has ended; WaitTimeout after `timeoutMs`. */
  wait (run: RunRef, options?: { timeoutMs?: number }): Promise<schemas.RunOut>
  /** While the answer's `next` is not null, there is more: ask again with it as `cursor`. */
  verify (query?: InProject & {
    job?: JobRef, from?: Instant, to?: Instant, cursor?: string
  }): Promise<schemas.VerifyOut>
  cancel (run: RunRef): Promise<schemas.RunOut>
  retry (run: RunRef): Promise<schemas.RunOut>
}

export interface Holds {
  create (body: schemas.HoldIn): Promise<schemas.HoldOut>
  list (): Pages<schemas.HoldOut>
  release (hold: Key, body: schemas.ReleaseIn): Promise<schemas.HoldOut>
}

export interface Limits {
  list (query?: Slice & InProject): Pages<schemas.LimitOut>
  get (name: string, options?: InProject): Promise<schemas.LimitOut>
  set (name: string, body: schemas.LimitIn, options?: InProject): Promise<schemas.LimitOut>
  delete (name: string, options?: InProject): Promise<void>
}

export interface Schedules {
  preview (body: schemas.PreviewIn): Promise<schemas.PreviewOut>
}

export interface Nodes {
  list (): Pages<schemas.NodeOut>
  drain (id: string, body?: schemas.DrainIn): Promise<schemas.NodeOut>
  resume (id: string): Promise<schemas.NodeOut>
  remove (id: string): Promise<void>
  cluster (): Promise<schemas.ClusterOut>
}

export interface Audit {
  list (query?: { limit?: number, cursor?: number | string }): Pages<schemas.AuditOut>
}

export interface Health {
  live (): Promise<schemas.Health>
  ready (): Promise<schemas.Health>
  openapi (): Promise<Record<string, any>>
}

/** A server as seen by one key. */
export class Everbell {
  constructor (options?: Options)
  readonly url: string
  readonly projects: Projects
  readonly credentials: Credentials
  readonly jobs: Jobs
  readonly runs: Runs
  readonly holds: Holds
  readonly limits: Limits
  readonly schedules: Schedules
  readonly nodes: Nodes
  readonly audit: Audit
  readonly health: Health
}
export default Everbell

export const FINAL_STATES: ReadonlySet<string>
export const OPERATIONS: Readonly<Record<string, readonly string[]>>

export class EverbellError extends Error { readonly hint: string }

/** The server refused: `status` and `code` are for programs, the rest for people. */
export class ApiError extends EverbellError {
  readonly status: number
  readonly code: string
  readonly problem: schemas.Problem
  readonly fields: readonly schemas.ProblemField[]
  readonly suggestions: readonly string[]
  readonly requestId: string
  readonly retryAfterMs?: number
  /** JSON pointers of the wrong fields; the address if it is not about fields. */
  get where (): string[]
}
export class BadRequest extends ApiError {}
export class Unauthenticated extends ApiError {}
export class Forbidden extends ApiError {}
export class NotFound extends ApiError {}
export class Conflict extends ApiError {}
export class VersionMismatch extends ApiError {}
export class TooLarge extends ApiError {}
export class Invalid extends ApiError {}
export class InvalidSchedule extends Invalid {
  get position (): number | undefined
  get text (): string | undefined
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
