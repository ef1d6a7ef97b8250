/** Bounds of the HTTP door. What happens at each is said beside it. */
export interface HttpLimits {
  /** Longest body of one PUT; a longer one is answered 413. It is streamed, so this is no memory. */
  readonly putBytesMax: number;
  /** Range and body that may be held whole for a digest; longer reads get none, longer writes are hashed as they pass. */
  readonly digestBytesMax: number;
  /** Data requests at a time; the next one is answered 503 with Retry-After. */
  readonly dataRequestsMax: number;
  /** Client connections; the next one is closed. */
  readonly connectionsMax: number;
  /** A data client that we wait for has to move `stallBytes` in each `stallMs`, else it is cut off (slow loris). */
  readonly stallMs: number;
  readonly stallBytes: number;
  /** Time for the head of a request, and for the body of a small one. */
  readonly headersMs: number;
  readonly bodyMs: number;
  /** Time that a connection may stand idle between two requests. */
  readonly keepAliveMs: number;
  readonly headerBytesMax: number;
  /** Body of a JSON request; a longer one is answered 413. */
  readonly jsonBytesMax: number;
  /** For one device I/O, when the client says nothing, and the most that it may ask for. */
  readonly ioTimeoutMs: number;
  readonly ioTimeoutMsMax: number;
  /** Time that close() lets requests finish before it cuts them off. */
  readonly closeGraceMs: number;
}

export const DEFAULT_LIMITS: HttpLimits = {
  putBytesMax: 64 * 1024 ** 3,
  digestBytesMax: 8 * 1024 * 1024,
  dataRequestsMax: 64,
  connectionsMax: 1024,
  stallMs: 60_000,
  stallBytes: 64 * 1024,
  headersMs: 10_000,
  bodyMs: 30_000,
  keepAliveMs: 30_000,
  headerBytesMax: 16 * 1024,
  jsonBytesMax: 64 * 1024,
  ioTimeoutMs: 30_000,
  ioTimeoutMsMax: 300_000,
  closeGraceMs: 10_000,
};

/** One device I/O of a stream. Small enough that a slow client shows progress, large enough for the target. */
export const IO_BYTES = 256 * 1024;

/** Device reads of one GET that are under way or wait for their turn to be sent. */
export const READ_WINDOW = 8;

/** Chunks of one GET that the socket has and the client has not taken; at the bound nothing more is handed to it. */
export const UNSENT_WINDOW = 2;

/** Device writes of one PUT that are under way; at the bound the socket is not read. */
export const WRITE_WINDOW = 8;

/** How long a connection that is closed early is still read, so that the answer reaches a client that is sending. */
export const LINGER_MS = 2000;

/** Operations of one PATCH. */
export const BLOCK_OPS_MAX = 256;

/** Volumes of one page of the list. */
export const PAGE_VOLUMES_MAX = 1000;
export const PAGE_VOLUMES = 100;
