// Generated from docs/reference/openapi.json by scripts/gen_js_types.py.

/** An error, after RFC 9457. `code` is stable, for programs to branch on. */
export interface Problem {
  type: string
  title: string
  status: number
  code: string
  detail: string
  hint: string
  instance: string
  request_id: string
  success?: boolean
  errors?: Array<ProblemField>
  suggestions?: Array<string>
  position?: number
  text?: string
}

/** One wrong field. */
export interface ProblemField {
  pointer: string
  code: string
  message: string
  hint: string
}

/** Where in a list this page stands. */
export interface PageOut {
  limit: number
  offset?: number
  total?: number
  next?: string | null
}

/** A project to be stored. */
export interface ProjectIn {
  /** Printable, no space around */
  name: string
  description?: string
}

/** A project. */
export interface ProjectOut {
  id: number
  uuid: string
  name: string
  description: string
  /** ISO 8601, UTC, ends with Z */
  created_at: string
  /** ISO 8601, UTC, ends with Z */
  updated_at: string
}

/** What to change of a project. */
export interface ProjectPatch {
  name?: string | null
  description?: string | null
}

/** A credential to be made. `expires_in` is in seconds. */
export interface CredentialIn {
  /** Printable, no space around */
  name?: string
  scopes?: Array<"admin" | "read" | "run" | "write">
  project?: number | string | null
  expires_at?: string | null
  expires_in?: number | null
}

/** A credential; `api_secret` only in the answer to its making or rotation. */
export interface CredentialOut {
  id: number
  uuid: string
  name: string
  api_key: string
  scopes: Array<"admin" | "read" | "run" | "write">
  project_id: number | null
  archived: boolean
  /** ISO 8601, UTC, ends with Z */
  created_at: string
  expires_at: string | null
  old_secret_until?: string | null
  api_secret?: string | null
}

/** How long the old secret stays good, in seconds. */
export interface RotateIn {
  /** Seconds */
  grace?: number
}

/** A job, in native names. The names of older schedulers are accepted too. */
export interface JobIn {
  /** Printable, no space around */
  name: string
  action: HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction
  project?: number | string | null
  description?: string
  schedule?: string | null
  /** IANA name */
  timezone?: string
  start_at?: string | null
  end_at?: string | null
  anchor_at?: string | null
  override?: string | null
  /** Without slots: 2026-12-25, --12-25, --12-24..--01-06, sat,sun 22:00-06:00 */
  exclude?: Array<string>
  repeat?: boolean
  /** Seconds */
  jitter?: number
  dst?: Dst
  week_start?: string
  misfire?: MisfireIn
  overlap?: "allow" | "queue" | "replace" | "skip"
  max_running?: number
  retry?: RetryIn | null
  timeout?: number | null
  on_failure?: OnFailure
  delivery?: "at_least_once" | "at_most_once"
  data?: any
  check?: HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction | null
  then?: Array<ThenIn>
  limits?: Array<string>
  tags?: Array<string>
  /** The file it was applied from */
  owner?: string
  enabled?: boolean
}

/** An HTTP request. Success is a status inside `success` (`2xx` or single codes). `batch`: runs that start together and agree in all of this share one request, whose body is an array. */
export interface HttpAction {
  kind: "http"
  url: string
  method?: "DELETE" | "GET" | "HEAD" | "PATCH" | "POST" | "PUT"
  headers?: Record<string, string>
  success?: Array<string>
  batch?: boolean
}

/** A program with its arguments, started without a shell. `env` is added to a small allow-listed environment; `user` needs a privileged node. */
export interface CommandAction {
  kind: "command"
  argv: Array<string>
  cwd?: string | null
  env?: Record<string, string>
  user?: string | null
}

/** A stored text, given to an allowed interpreter (sh, bash, python, node). */
export interface ScriptAction {
  kind: "script"
  text: string
  interpreter?: string
  args?: Array<string>
  cwd?: string | null
  env?: Record<string, string>
  user?: string | null
}

/** A Python function, named as `module:function`; args, kwargs and results are JSON values. `mode`: `auto` awaits an async function on the loop and calls another one in a thread; `inline` calls it on the loop (it must not block); `subprocess` starts an interpreter that can be killed. `app` is the program that registered it; `retired` tells why its code no longer has it. */
export interface PythonAction {
  kind: "python"
  function: string
  args?: Array<any>
  kwargs?: Record<string, any>
  mode?: "auto" | "inline" | "subprocess" | "thread"
  app?: string
  retired?: string
}

/** A message for other programs, on the queue of `driver`, one that the settings list. `data` replaces the job's. `max_length`: messages in the queue above which the run fails instead of adding; 0 = no limit, None = the node's setting. */
export interface QueueAction {
  kind: "queue"
  driver: string
  data?: any
  max_length?: number | null
}

/** What a local time that does not exist, or exists twice, means (Debian cron by default). */
export interface Dst {
  gap?: "run_after" | "skip"
  overlap?: "both" | "first" | "second"
}

/** What becomes of slots that no node was there to start; `window` in seconds. */
export interface MisfireIn {
  policy?: "all" | "latest" | "skip"
  /** Seconds */
  window?: number
  max_catch_up?: number
}

/** Further attempts; `delay` and `cap` in seconds. */
export interface RetryIn {
  max?: number
  /** Seconds */
  delay?: number
  multiplier?: number
  /** Seconds */
  cap?: number
  jitter?: number
  on?: Array<"failed" | "timed_out">
}

/** `park_after` N failed runs in a row parks the job until resolved; 0 = never. */
export interface OnFailure {
  park_after?: number
}

/** A job to be started when a run ends; `delay` in seconds after the end. */
export interface ThenIn {
  /** Printable, no space around */
  job: string
  on?: "always" | "failure" | "success"
  /** Seconds */
  delay?: number
}

/** A job. `spec` is `schedule` under its older name. */
export interface JobOut {
  id: number
  uuid: string
  project_id: number
  project_uuid: string
  project: string
  name: string
  description: string
  schedule: string | null
  spec: string | null
  override: string | null
  exclude: Array<string>
  timezone: string
  start_at: string | null
  end_at: string | null
  anchor_at: string | null
  repeat: boolean
  /** Seconds */
  jitter: number
  dst: Dst
  week_start: string
  action: HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction
  data: any
  misfire: MisfireIn
  overlap: string
  max_running: number
  retry: RetryIn | null
  timeout: number | null
  on_failure: OnFailure
  check: HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction | null
  then: Array<ThenIn>
  limits: Array<string>
  delivery: string
  tags: Array<string>
  owner: string
  enabled: boolean
  parked: string
  quarantined: string
  failures: number
  version: number
  next_run: string | null
  last_run: string | null
  last_status: "cancelled" | "claimed" | "failed" | "lost" | "missed" | "queued" | "running" | "skipped" | "succeeded" | "timed_out" | null
  last_skipped: string | null
  /** ISO 8601, UTC, ends with Z */
  created_at: string
  /** ISO 8601, UTC, ends with Z */
  startdate: string
  /** ISO 8601, UTC, ends with Z */
  updated_at: string
  callback_url?: string
  frequency?: number
}

/** Why the job is held, and until when; `then`: what becomes of the slots missed by then. */
export interface JobHoldIn {
  reason?: string
  until?: string | null
  then?: "each" | "once" | "skip" | null
}

/** A hold. */
export interface HoldOut {
  id: number
  scope: string
  target_id: number
  reason: string
  who: string
  /** ISO 8601, UTC, ends with Z */
  created_at: string
  until: string | null
  then: "each" | "once" | "skip" | null
}

/** One planned instant, in UTC and in the schedule's zone. `mark` and `note` tell what a clock change does to it. */
export interface SlotOut {
  /** ISO 8601, UTC, ends with Z */
  at: string
  local: string
  mark: "" | "after_gap" | "first_pass" | "second_pass"
  note: string
}

/** Nothing needs to be said; `reason` is kept with the run. */
export interface RunNow {
  reason?: string
}

/** A run. `until` and `count` describe a range of slots in one row. */
export interface RunOut {
  id: string
  job_id: number
  job_uuid: string
  job: string
  project_id: number
  /** ISO 8601, UTC, ends with Z */
  slot: string
  trigger: "backfill" | "catch_up" | "chain" | "manual" | "retry" | "schedule"
  state: "cancelled" | "claimed" | "failed" | "lost" | "missed" | "queued" | "running" | "skipped" | "succeeded" | "timed_out"
  reason: string
  attempt: number
  token: number
  node: string
  /** ISO 8601, UTC, ends with Z */
  due_at: string
  claimed_at: string | null
  started_at: string | null
  finished_at: string | null
  duration_ms: number | null
  lateness_ms: number | null
  code: number | null
  error: string
  output_bytes: number
  truncated: boolean
  until: string | null
  count: number
  cancel_requested: boolean
  attempts?: Array<AttemptOut>
}

/** One try inside a run that did not end the run. */
export interface AttemptOut {
  attempt: number
  token: number
  node: string
  state: "cancelled" | "claimed" | "failed" | "lost" | "missed" | "queued" | "running" | "skipped" | "succeeded" | "timed_out"
  started_at: string | null
  finished_at: string | null
  code: number | null
  error: string
}

/** All jobs of one owner. `project` is that of jobs that name none. `prune` removes the owner's other jobs: in `project`, or everywhere if there is none; by default it does so if there is an owner. `take_over` changes jobs of other owners too. `plan` only tells what would be done, with the fire times of the next `days`. */
export interface ApplyIn {
  jobs: Array<JobIn | OlderJobIn>
  /** The file it was applied from */
  owner?: string
  project?: number | string | null
  prune?: boolean | null
  take_over?: boolean
  plan?: boolean
  days?: number
}

/** What was done, or would be (`applied` false). Loads are those of all jobs of the touched projects, up to `load_until`. */
export interface PlanOut {
  applied: boolean
  owner: string
  /** ISO 8601, UTC, ends with Z */
  at: string
  steps: Array<StepOut>
  added: number
  changed: number
  removed: number
  unchanged: number
  load_before: LoadOut
  load_after: LoadOut
  /** ISO 8601, UTC, ends with Z */
  load_until: string
}

/** What is done with one job. `id` null = a new one; `moves` null = no slot moves. */
export interface StepOut {
  what: "add" | "change" | "remove"
  project: string
  job: string
  id: number | null
  timezone: string
  fields: Array<FieldOut>
  moves: MovesOut | null
}

/** A field that changes, by the name it has in a job; null = it is not there. */
export interface FieldOut {
  field: string
  before: any
  after: any
}

/** Slots of a job before and after, up to `until`. `gone` and `new` name the first of those that are in one of both only; `whole` false = there are so many slots that fewer days were compared. */
export interface MovesOut {
  /** ISO 8601, UTC, ends with Z */
  until: string
  whole: boolean
  before: Array<string>
  after: Array<string>
  gone: Array<string>
  new: Array<string>
  gone_count: number
  new_count: number
  kept_count: number
  edit: SeamOut | null
}

/** What the edit does at the moment it is made: `slots` are missed, or run once more. */
export interface SeamOut {
  kind: "doubled" | "missed"
  /** ISO 8601, UTC, ends with Z */
  last: string
  next: string | null
  slots: Array<string>
}

/** Mean starts per hour, and the busiest minute; null = nothing starts. */
export interface LoadOut {
  per_hour: number
  peak: number
  peak_at: string | null
}

/** A limit: `active` runs share it now, `jobs` name it. */
export interface LimitOut {
  name: string
  project_id: number
  project: string
  most: number
  active: number
  jobs: number
}

/** How many runs of the jobs that name the limit may be active at once. */
export interface LimitIn {
  most: number
}

/** A hold. `target` is an id, uuid or name; `project` tells whose job's name it is. With `until` it ends by itself; `then` says what becomes of the slots missed (`skip`). */
export interface HoldIn {
  scope: "all" | "job" | "project"
  target?: number | string | null
  project?: number | string | null
  reason?: string
  until?: string | null
  then?: "each" | "once" | "skip" | null
}

/** What becomes of the slots missed under the hold. */
export interface ReleaseIn {
  missed: "each" | "once" | "skip"
}

/** A schedule to be explained; `n` slots (at most 100) after `after`, or now. */
export interface PreviewIn {
  /** See the cron dialect */
  schedule: string
  /** IANA name */
  timezone?: string
  n?: number
  after?: string | null
  start_at?: string | null
  end_at?: string | null
  /** Without slots: 2026-12-25, --12-25, --12-24..--01-06, sat,sun 22:00-06:00 */
  exclude?: Array<string>
  dst?: Dst
  week_start?: string
}

/** A schedule in words, its next slots, and what may surprise. `excluded` holds instants that the exclusions take out, `clock_changes` the zone's next two. */
export interface PreviewOut {
  schedule: string | null
  timezone: string
  description: string
  warnings: Array<string>
  next: Array<SlotOut>
  excluded: Array<SlotOut>
  clock_changes: Array<ClockChangeOut>
}

/** A change of the zone's clocks (offsets in seconds), and what the schedule does there. */
export interface ClockChangeOut {
  /** ISO 8601, UTC, ends with Z */
  at: string
  local: string
  before: number
  after: number
  note: string
}

/** A process of the cluster. `drained`: why an operator drained the nodes of its name; `reason`: why it takes no new work now. `shards` of the cluster's are its own, and `load` is the work in them: seconds of work an hour. `machine_cpu` (percent, smoothed), `cores` and memory are its machine's. `clock_offset_s`: the database's clock minus its own, null = not known. `notes`: what people should know, such as that its time zone rules are not those of another node. */
export interface NodeOut {
  id: string
  name: string
  host: string
  pid: number
  version: string
  state: string
  /** ISO 8601, UTC, ends with Z */
  started_at: string
  /** ISO 8601, UTC, ends with Z */
  heartbeat_at: string
  /** ISO 8601, UTC, ends with Z */
  lease_until: string
  workers: number
  running: number
  queued: number
  rss_bytes: number
  cpu_percent: number
  address: string
  reason: string
  drained: string
  roles: Array<string>
  shards: number
  load: number
  cores: number
  machine_cpu: number
  memory_total_bytes: number
  memory_free_bytes: number
  clock_offset_s: number | null
  tzdata: string
  schema: number
  notes: Array<string>
}

/** Why a node is to take no new work. */
export interface DrainIn {
  reason?: string
}

/** How the work is spread. Jobs are dealt to nodes by shard; `epoch` counts the deals. `dealt` of the `shards` have a living owner; all others, and all of a cluster of one node, are anybody's. `load` is the work in all of them: seconds of work an hour. `load_ratio`: most over least loaded scheduler, per capacity; 1 = even, null = not known or one has nothing. */
export interface ClusterOut {
  epoch: number
  nodes_alive: number
  shards: number
  dealt: number
  load: number
  load_ratio: number | null
}

/** A change: `before` and `after` are digests of the thing, empty where there was none. */
export interface AuditOut {
  id: number
  /** ISO 8601, UTC, ends with Z */
  at: string
  who: string
  credential_id: number | null
  address: string
  request_id: string
  what: string
  kind: string
  target: string
  project_id: number | null
  before: string
  after: string
}

/** Whether the process lives (or can work), and why not. `degraded`: it works, and `notes` tell what people should know. */
export interface Health {
  status: "degraded" | "ok" | "ready"
  notes?: Array<string>
}

/** What was compared: `slots` that the schedules planned, with what became of them. `next` given: ask again with it as `cursor`; the numbers are those of this part. */
export interface VerifyOut {
  /** ISO 8601, UTC, ends with Z */
  from: string
  /** ISO 8601, UTC, ends with Z */
  to: string
  jobs: number
  slots: number
  /** Slots by the state of their row */
  states: Record<string, number>
  unexplained: number
  explained: number
  findings: Array<FindingOut>
  next: string | null
}

/** Something that does not add up: `count` slots of a job, from `first` to `last`. `gap`: slots without a row. `undecided`: the same from the job's next slot on. `no_slot`: a row of no slot. `wrong_count`: a range that counts other slots than the schedule has. `double`: slots with two rows. `not_final`: a row long overdue. `why` explains it; empty: nothing does. */
export interface FindingOut {
  job_id: number
  job: string
  project_id: number
  kind: "double" | "gap" | "no_slot" | "not_final" | "undecided" | "wrong_count"
  /** ISO 8601, UTC, ends with Z */
  first: string
  /** ISO 8601, UTC, ends with Z */
  last: string
  count: number
  run: string | null
  detail: string
  why: string
}

/** Why a job ran, or not: `verdict` says it, `facts` bear on it. `slot` is the slot at that time, `before` and `after` are the nearest ones; `beside` holds runs that were active then; `version` is the definition's at that time. */
export interface WhyOut {
  job_id: number
  job: string
  timezone: string
  /** ISO 8601, UTC, ends with Z */
  at: string
  local: string
  verdict: string
  facts: Array<string>
  version: number | null
  slot: SlotToldOut | null
  before: SlotToldOut | null
  after: SlotToldOut | null
  beside: Array<RunOut>
}

/** A slot, in UTC and in the job's zone, and what became of it. */
export interface SlotToldOut {
  /** ISO 8601, UTC, ends with Z */
  at: string
  local: string
  words: string
  run: RunOut | null
}

/** What an outage would do. `next` given: more jobs follow, ask again with it as cursor. */
export interface SimulateOut {
  timezone: string
  /** Seconds */
  takes: number
  outages: Array<OutageOut>
  jobs: Array<JobFateOut>
  next: string | null
}

/** A time in which no node is up. */
export interface OutageOut {
  /** ISO 8601, UTC, ends with Z */
  from: string
  /** ISO 8601, UTC, ends with Z */
  to: string
  local_from: string
  local_to: string
}

/** One job through the outage, from the last slot before to the first one after. */
export interface JobFateOut {
  job_id: number
  job: string
  project_id: number
  timezone: string
  misfire: string
  overlap: string
  /** Slots by what becomes of them */
  counts: Record<string, number>
  fates: Array<FateOut>
  more: number
  note: string
}

/** What becomes of a slot, or of `count` slots up to `until`; `at`: when it runs. */
export interface FateOut {
  /** ISO 8601, UTC, ends with Z */
  slot: string
  local: string
  what: "again" | "cancelled" | "catch_up" | "late" | "lost" | "missed" | "runs" | "skipped"
  at: string | null
  local_at: string | null
  reason: string
  until: string | null
  count: number
  note: string
}

/** Which slots of the past are run: both ends belong to it; at most `max` of them. */
export interface BackfillIn {
  /** ISO 8601 with a zone, or a date (midnight UTC) */
  from: string
  /** ISO 8601 with a zone, or a date (midnight UTC) */
  to: string
  max?: number
  dry_run?: boolean
  reason?: string
}

/** The slots that are filled, or would be. `more` are left out, `done` had run, `waiting` are being filled already. */
export interface BackfillOut {
  started: boolean
  slots: Array<FilledSlot>
  done: number
  waiting: number
  more: number
}

/** A slot without a successful run; `before` is what became of it, `run` what fills it. */
export interface FilledSlot {
  /** ISO 8601, UTC, ends with Z */
  at: string
  local: string
  before: string
  run: RunOut | null
}

/** Which coming slot does not run (the next one), and why. */
export interface SkipIn {
  slot?: string | null
  reason?: string
}

/** The row of a slot that a person skipped, and the run in its place. */
export interface SkippedOut {
  skipped: RunOut
  instead: RunOut | null
}

/** Which coming slot does not run (the next one), when it runs instead (now), and why. */
export interface InsteadIn {
  slot?: string | null
  at?: string | null
  reason?: string
}

/** A job in the names of older schedulers. */
export interface OlderJobIn {
  /** Printable, no space around */
  name: string
  description?: string
  /** IANA name */
  timezone?: string
  repeat?: boolean
  data?: any
  tags?: Array<string>
  /** schedule */
  spec?: string | null
  /** Seconds between runs; in place of spec. */
  frequency?: number
  /** Address of an http action; also callbackUrl. */
  callback_url?: string
  /** Text of a script action; in place of callback_url. */
  script?: string
  /** Of script; default: its #! line, or node. */
  interpreter?: "sh" | "bash" | "python" | "node"
  /** project; also projectUuid. */
  project_uuid?: number | string | null
  startDate?: string | null
  endDate?: string | null
  retryMax?: number
  execution_type?: "http" | "webhook_url"
  status?: "active" | "inactive"
  /** timezone_offset is ignored: the zone's rules give the offset */
  timezone_offset?: any
  /** timezoneOffset is ignored: the zone's rules give the offset */
  timezoneOffset?: any
  /** startdate is ignored: it tells when a job was created (start_at bounds it) */
  startdate?: any
}

/** What to change of a job; null restores the default. Read-only names that an answer shows are ignored. */
export interface JobPatch {
  /** Printable, no space around */
  name?: string
  /** Merged into the action. */
  action?: Record<string, any>
  description?: string | null
  schedule?: string | null
  timezone?: string | null
  start_at?: string | null
  end_at?: string | null
  anchor_at?: string | null
  override?: string | null
  exclude?: Array<string> | null
  repeat?: boolean | null
  jitter?: number | null
  dst?: Dst | null
  week_start?: string | null
  misfire?: MisfireIn | null
  overlap?: "allow" | "queue" | "replace" | "skip" | null
  max_running?: number | null
  retry?: RetryIn | null
  timeout?: number | null
  on_failure?: OnFailure | null
  delivery?: "at_least_once" | "at_most_once" | null
  data?: any | null
  check?: HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction | null
  then?: Array<ThenIn> | null
  limits?: Array<string> | null
  tags?: Array<string> | null
  owner?: string | null
  enabled?: boolean | null
}
