import { type BlockErrno, isOrionError, type OrionError } from '#core/errors.ts';

/** Everything that a client can be told went wrong, by its stable name. The `type` of a problem is derived from it. */
interface ProblemSpec {
  readonly status: number;
  readonly title: string;
  readonly hint: string;
  /** Whether the same request may succeed later as it is. */
  readonly retryable?: boolean;
}

export const PROBLEMS = {
  'invalid-request': {
    status: 400,
    title: 'The request is malformed',
    hint: 'Compare the request with /openapi.json.',
  },
  'bad-range': {
    status: 400,
    title: 'The Range header cannot be understood',
    hint: 'Write Range: bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH.',
  },
  'range-required': {
    status: 400,
    title: 'A write must say which bytes it replaces',
    hint: 'Send Content-Range: bytes FIRST-LAST/*, or ?whole=true with a body of exactly the size of the volume.',
  },
  'bad-content-range': {
    status: 400,
    title: 'The Content-Range header cannot be understood',
    hint: 'Write Content-Range: bytes FIRST-LAST/SIZE, where SIZE may be *.',
  },
  'size-mismatch': {
    status: 400,
    title: 'The size in Content-Range is not the size of the volume',
    hint: 'Ask for the size with HEAD, or write * for it. An upload with `curl -r` puts its own length there: give Content-Range with -H instead.',
  },
  'length-mismatch': {
    status: 400,
    title: 'Content-Length is not the length of the range',
    hint: 'Send exactly LAST - FIRST + 1 bytes.',
  },
  alignment: {
    status: 400,
    title: 'A write must be on block boundaries',
    hint: 'Offset and length must be multiples of blockBytes.',
  },
  'bad-digest': {
    status: 400,
    title: 'The Content-Digest header cannot be understood',
    hint: 'Write Content-Digest: sha-256=:BASE64:.',
  },
  'digest-mismatch': {
    status: 400,
    title: 'The body does not have the digest that was sent with it',
    hint: 'The data changed on its way; send it again.',
    retryable: true,
  },
  'bad-timeout': {
    status: 400,
    title: 'The Request-Timeout header cannot be understood',
    hint: 'Write a number of seconds.',
  },
  'read-only': {
    status: 403,
    title: 'The volume is read-only',
    hint: 'Write to another volume, or have the write protection removed.',
  },
  'not-found': { status: 404, title: 'There is nothing here', hint: 'GET / lists what there is.' },
  'volume-not-found': {
    status: 404,
    title: 'There is no such volume',
    hint: 'GET /v1/volumes lists the volumes of this gateway.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'The resource does not have this method',
    hint: 'The Allow header lists its methods.',
  },
  'request-timeout': {
    status: 408,
    title: 'The client sent too little for too long',
    hint: 'Send the request again over a quicker connection.',
    retryable: true,
  },
  'reservation-conflict': {
    status: 409,
    title: 'Another initiator has reserved the logical unit',
    hint: 'Release the reservation on its holder.',
  },
  'length-required': {
    status: 411,
    title: 'A write must have a Content-Length',
    hint: 'Send the length up front rather than chunked.',
  },
  'too-large': {
    status: 413,
    title: 'The request is larger than the gateway takes',
    hint: 'Send it in parts.',
  },
  'media-type': {
    status: 415,
    title: 'The body has a media type that is not taken here',
    hint: 'See /openapi.json for the media types.',
  },
  'range-not-satisfiable': {
    status: 416,
    title: 'The range is outside the volume',
    hint: 'Content-Range says how large the volume is.',
  },
  'multiple-ranges': {
    status: 416,
    title: 'Only one range is served per request',
    hint: 'Send one request for each range.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The headers are too large',
    hint: 'Send fewer or shorter headers.',
  },
  'io-error': {
    status: 500,
    title: 'The device failed the request',
    hint: 'Look at the paths of the volume and at the log of the gateway.',
  },
  'medium-error': {
    status: 500,
    title: 'The medium is unreadable at this place',
    hint: 'Rewrite the blocks or restore them from a backup.',
  },
  internal: {
    status: 500,
    title: 'The gateway failed',
    hint: 'The log of the gateway says more; report it as a bug.',
  },
  unsupported: {
    status: 501,
    title: 'The volume cannot do this',
    hint: 'Look at the capabilities of the volume.',
  },
  'target-protocol': {
    status: 502,
    title: 'The target broke the protocol',
    hint: 'Look at the log of the worker, and at the target.',
    retryable: true,
  },
  'volume-starting': {
    status: 503,
    title: 'The volume is not served yet',
    hint: 'Try again; "orion-iscsi multipath info" says what its paths wait for.',
    retryable: true,
  },
  unavailable: {
    status: 503,
    title: 'The volume has no usable path at the moment',
    hint: 'Try again; look at the paths of the volume.',
    retryable: true,
  },
  'outcome-unknown': {
    status: 503,
    title: 'It is not known whether the request was carried out',
    hint: 'Read back before you decide to send it again.',
  },
  busy: {
    status: 503,
    title: 'The gateway serves as many data requests as it may',
    hint: 'Try again in a moment.',
    retryable: true,
  },
  timeout: {
    status: 504,
    title: 'The target did not answer in time',
    hint: 'Try again; look at the paths of the volume.',
    retryable: true,
  },
  'no-space': {
    status: 507,
    title: 'The device has no space left',
    hint: 'Grow the thin pool on the target, or trim what is not needed.',
  },
} as const satisfies Readonly<Record<string, ProblemSpec>>;

export type ProblemName = keyof typeof PROBLEMS;

const RETRY_AFTER_SECONDS = 1;

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

export type ProblemFields = Readonly<Record<string, unknown>>;

interface ProblemOptions {
  readonly detail?: string;
  readonly hint?: string;
  readonly retryable?: boolean;
  /** volume, offset, length and the like. */
  readonly fields?: ProblemFields;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** Thrown where a request is handled; the error handler turns it into an RFC 9457 document. */
export class HttpProblem extends Error {
  override readonly name = 'HttpProblem';
  readonly problem: ProblemName;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly #options: ProblemOptions;

  constructor(problem: ProblemName, options: ProblemOptions = {}) {
    const spec: ProblemSpec = PROBLEMS[problem];
    super(
      options.detail ?? spec.title,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.problem = problem;
    this.status = spec.status;
    this.#options = options;
    const retryAfter: Record<string, string> =
      spec.status === 503 ? { 'retry-after': String(RETRY_AFTER_SECONDS) } : {};
    this.headers = { ...retryAfter, ...options.headers };
  }

  /** The same problem with more said about it. */
  with(fields: ProblemFields): HttpProblem {
    return new HttpProblem(this.problem, {
      ...this.#options,
      detail: this.message,
      fields: { ...this.#options.fields, ...fields },
    });
  }

  document(): Record<string, unknown> {
    const spec: ProblemSpec = PROBLEMS[this.problem];
    const standard = {
      type: `urn:orion-iscsi:problem:${this.problem}`,
      title: spec.title,
      status: this.status,
      detail: this.message,
      hint: this.#options.hint ?? spec.hint,
      retryable: this.#options.retryable ?? spec.retryable ?? false,
    };
    // Twice: first for the order, last because a field of an error may not replace one of these.
    return { ...standard, ...this.#options.fields, ...standard };
  }
}

/** Codes that say more than their errno and outcome do; the problem then says whether a retry makes sense. */
const BY_CODE: Readonly<Record<string, ProblemName>> = {
  BLOCK_OUT_OF_RANGE: 'range-not-satisfiable',
  BLOCK_UNALIGNED: 'alignment',
  BLOCK_MEDIUM: 'medium-error',
  SCSI_OUT_OF_RANGE: 'range-not-satisfiable',
  MULTIPATH_NO_PATH: 'unavailable',
  MULTIPATH_QUEUE_FULL: 'unavailable',
  MULTIPATH_NOT_FENCED: 'outcome-unknown',
};

/** What a code is about, where libs have several of a kind. The first that matches counts. */
const BY_CODE_PATTERN: readonly (readonly [RegExp, ProblemName])[] = [
  [/RESERVATION/, 'reservation-conflict'],
  [/MEDIUM/, 'medium-error'],
  [/TIMEOUT|DEADLINE/, 'timeout'],
  [/PROTOCOL|MALFORMED|REJECT/, 'target-protocol'],
];

const BY_ERRNO: Readonly<Partial<Record<BlockErrno, ProblemName>>> = {
  EPERM: 'read-only',
  ENOSPC: 'no-space',
  EINVAL: 'invalid-request',
  ENOTSUP: 'unsupported',
  EOVERFLOW: 'too-large',
  ESHUTDOWN: 'unavailable',
  ENOMEM: 'unavailable',
};

/** What a client is told of a device's error. */
export function problemOfError(error: unknown, fields: ProblemFields = {}): HttpProblem {
  if (error instanceof HttpProblem) return error.with(fields);
  if (!isOrionError(error)) {
    // The text of an unexpected error may hold anything: it goes to the log, not to the client.
    return new HttpProblem('internal', { cause: error, fields });
  }
  const exact = BY_CODE[error.code];
  const retryable = error.outcome === 'not-executed' || error.outcome === 'terminated';
  return new HttpProblem(exact ?? nameOfError(error), {
    detail: error.message,
    ...(error.hint === '' ? {} : { hint: error.hint }),
    ...(exact === undefined ? { retryable } : {}),
    fields: { code: error.code, outcome: error.outcome, ...error.fields, ...fields },
    cause: error,
  });
}

function nameOfError(error: OrionError): ProblemName {
  if (error.outcome === 'unknown') return 'outcome-unknown';
  for (const [pattern, problem] of BY_CODE_PATTERN) if (pattern.test(error.code)) return problem;
  const byErrno = BY_ERRNO[error.errno];
  if (byErrno !== undefined) return byErrno;
  return error.outcome === 'final' ? 'io-error' : 'unavailable';
}
