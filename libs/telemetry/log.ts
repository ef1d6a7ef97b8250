import { stderr } from 'node:process';
import { type DestinationStream, destination, type Logger, pino } from 'pino';
import { prettyFactory } from 'pino-pretty';

export type { Logger };

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogOptions {
  readonly level: LogLevel;
  /** Readable lines instead of JSON. `auto`: when stderr is a terminal. */
  readonly pretty: boolean | 'auto';
  /** The role of the process: "gateway". */
  readonly name: string;
  /** Fields on every line: node, id. */
  readonly bindings?: Readonly<Record<string, string | number>>;
  /** stderr when left out: stdout belongs to `ready` lines and command output. */
  readonly destination?: DestinationStream;
}

/** Keys whose values never reach a log, wherever they stand up to three levels deep. */
const SECRET_KEYS = [
  'secret',
  'password',
  'passphrase',
  'token',
  'authorization',
  'cookie',
  'chapSecret',
  'chap_secret',
  'mutualSecret',
  'mutual_secret',
  'privateKey',
  'private_key',
  'credentials',
];

const REDACTED_PATHS = SECRET_KEYS.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]);

/** The log of a process: one JSON object a line on stderr. */
export function createLogger(options: LogOptions): Logger {
  const readable = options.pretty === 'auto' ? stderr.isTTY === true : options.pretty;
  const sink = options.destination ?? destination({ dest: 2, sync: true });
  return pino(
    {
      level: options.level,
      base: { name: options.name, ...options.bindings },
      redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.err },
    },
    readable ? prettyStream(sink, options.destination === undefined) : sink,
  );
}

/** In this process rather than in a worker thread, so that the last lines before a crash are not lost. */
function prettyStream(sink: DestinationStream, toStderr: boolean): DestinationStream {
  const format = prettyFactory({
    ignore: 'pid,hostname',
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
    colorize: toStderr && stderr.isTTY === true,
  });
  return { write: (line) => sink.write(format(line)) };
}
