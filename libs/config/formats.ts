import { parseBytes } from '../core/units.ts';
import { formatAddress, parseAddress } from '../wire/network.ts';

/** What a text may look like: the checks behind `format` in the schema, and the words that the errors use. */

/** sun_path of Linux holds 108 bytes with the final zero; macOS has four fewer and complains by itself. */
export const UNIX_PATH_BYTES_MAX = 107;
/** RFC 7143 §4.2.7.1: an iSCSI name is at most 223 bytes. */
export const ISCSI_NAME_BYTES_MAX = 223;
export const ISCSI_PORT = 3260;

export type Parsed<T> = { readonly value: T } | { readonly problem: string };

export interface Format {
  /** Ends the sentence "allowed: ...". */
  readonly allowed: string;
  /** The value in the one form that the program uses, or what is wrong with it. */
  parse(value: unknown): Parsed<unknown>;
}

const byteLength = (text: string): number => Buffer.byteLength(text);

function ofText(allowed: string, parse: (text: string) => Parsed<unknown>): Format {
  return {
    allowed,
    parse: (value) =>
      typeof value === 'string' ? parse(value) : { problem: `is ${describe(value)}` },
  };
}

/** "a number", "a list": the kind of a value, in words for an error. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  switch (typeof value) {
    case 'string':
      return `the text ${quote(value)}`;
    case 'number':
    case 'bigint':
      return `the number ${value}`;
    case 'boolean':
      return `${value}`;
    default:
      return 'a table';
  }
}

const QUOTE_CHARS_MAX = 80;

/** A value from outside, safe for one line of a terminal. */
export function quote(text: string): string {
  const cut = text.length > QUOTE_CHARS_MAX ? `${text.slice(0, QUOTE_CHARS_MAX)}...` : text;
  return JSON.stringify(cut);
}

const DOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i;

/** RFC 7143 §4.2.7.4 to .6: the three forms of an iSCSI name. Null when it is one. */
export function iscsiNameProblem(name: string): string | null {
  if (byteLength(name) > ISCSI_NAME_BYTES_MAX) {
    return `is ${byteLength(name)} bytes long, at most ${ISCSI_NAME_BYTES_MAX} are allowed`;
  }
  if (/^eui\./i.test(name)) {
    return /^eui\.[0-9a-f]{16}$/i.test(name) ? null : 'is not "eui." and 16 hexadecimal digits';
  }
  if (/^naa\./i.test(name)) {
    return /^naa\.([0-9a-f]{16}|[0-9a-f]{32})$/i.test(name)
      ? null
      : 'is not "naa." and 16 or 32 hexadecimal digits';
  }
  const match = /^iqn\.(\d{4})-(\d{2})\.([^:]+)(?::(.+))?$/i.exec(name);
  if (match === null) return 'is not an iSCSI name';
  const month = Number(match[2]);
  if (month < 1 || month > 12) return `has the month ${match[2]} in its date`;
  if (!DOMAIN.test(match[3]!)) return `names no domain after the date (${quote(match[3]!)})`;
  // RFC 3722 forbids the underscore and capitals, but targets that have them exist and compare byte by byte.
  const suffix = match[4] ?? '';
  return /^[\p{L}\p{N}\p{M}._:-]*$/u.test(suffix)
    ? null
    : 'has a character that an iSCSI name may not have';
}

const iscsiName = ofText(
  'iqn.YYYY-MM.domain[:suffix], eui.<16 hex digits> or naa.<16 or 32 hex digits>',
  (text) => {
    const problem = iscsiNameProblem(text);
    return problem === null ? { value: text } : { problem: `${quote(text)} ${problem}` };
  },
);

const portal = ofText(`host:port or [IPv6]:port, port ${ISCSI_PORT} when left out`, (text) => {
  const address = parseAddress(text, ISCSI_PORT);
  if (address === null || address.kind !== 'tcp') return { problem: `${quote(text)} is no portal` };
  if (address.port === 0) return { problem: `${quote(text)} has port 0` };
  return { value: formatAddress(address) };
});

function unixPathProblem(path: string): string | null {
  if (!path.startsWith('/')) return `${quote(path)} is not an absolute path`;
  const bytes = byteLength(path);
  if (bytes > UNIX_PATH_BYTES_MAX) {
    return `the socket path has ${bytes} bytes, the system takes at most ${UNIX_PATH_BYTES_MAX}`;
  }
  return null;
}

function listenAddress(text: string, allowUnix: boolean): Parsed<string> {
  const address = parseAddress(text);
  if (address === null) {
    const missingPort = parseAddress(text, 1) !== null;
    return { problem: `${quote(text)} ${missingPort ? 'has no port' : 'is no address'}` };
  }
  if (address.kind === 'tcp') return { value: formatAddress(address) };
  if (!allowUnix) return { problem: `${quote(text)} is a unix socket` };
  const problem = unixPathProblem(address.path);
  return problem === null ? { value: text } : { problem };
}

const listen = ofText('host:port, [IPv6]:port or unix:/absolute/path', (text) =>
  listenAddress(text, true),
);

const tcpListen = ofText('host:port or [IPv6]:port; "" for none', (text) =>
  text === '' ? { value: '' } : listenAddress(text, false),
);

function urlProblem(text: string, protocols: readonly string[]): string | null {
  const url = URL.parse(text);
  if (url === null || url.hostname === '') return `${quote(text)} is no URL`;
  return protocols.includes(url.protocol)
    ? null
    : `${quote(text)} begins with ${quote(url.protocol)}`;
}

const busUrl = ofText(
  'nats://host:port or tls://host:port, several with commas between; "" to start nats-server',
  (text) => {
    if (text === '') return { value: '' };
    for (const part of text.split(',')) {
      const problem = urlProblem(part.trim(), ['nats:', 'tls:']);
      if (problem !== null) return { problem };
    }
    return { value: text };
  },
);

const httpUrl = ofText('http://... or https://...; "" for none', (text) => {
  if (text === '') return { value: '' };
  const problem = urlProblem(text, ['http:', 'https:']);
  return problem === null ? { value: text } : { problem };
});

const directory = ofText('an absolute path', (text) => {
  if (!text.startsWith('/')) return { problem: `${quote(text)} is not an absolute path` };
  return { value: text.length > 1 ? text.replace(/\/+$/, '') : text };
});

/** Not quoted in problems, like the next: what stands there may be the secret itself. */
const filePath = ofText('an absolute path; "" for none', (text) =>
  text === '' || text.startsWith('/') ? { value: text } : { problem: 'is not an absolute path' },
);

const caFile = ofText('an absolute path, or "system"; "" for none', (text) =>
  text === '' || text === 'system' || text.startsWith('/')
    ? { value: text }
    : { problem: `${quote(text)} is not an absolute path` },
);

const envName = ofText('the name of an environment variable; "" for none', (text) =>
  /^(?:[A-Za-z_][A-Za-z0-9_]{0,127})?$/.test(text)
    ? { value: text }
    : { problem: 'is no such name' },
);

/** RFC 7143 §6.1: a text-value has at most 255 bytes. */
const CHAP_NAME_BYTES_MAX = 255;

const chapName = ofText(
  `a name of at most ${CHAP_NAME_BYTES_MAX} bytes without control characters; "" for none`,
  (text) => {
    if (byteLength(text) > CHAP_NAME_BYTES_MAX) return { problem: `has ${byteLength(text)} bytes` };
    return /\p{Cc}/u.test(text) ? { problem: 'has a control character' } : { value: text };
  },
);

/** Flat space addressing of SAM-5 §4.7 ends here; anything else is given as its 8 bytes. */
export const LUN_NUMBER_MAX = 16383;

const lun: Format = {
  allowed: `0 to ${LUN_NUMBER_MAX}, or the 8 bytes of REPORT LUNS as 16 hexadecimal digits`,
  parse(value) {
    if (typeof value === 'number') {
      if (Number.isInteger(value) && value >= 0 && value <= LUN_NUMBER_MAX) return { value };
      return { problem: `is the number ${value}` };
    }
    if (typeof value !== 'string') return { problem: `is ${describe(value)}` };
    if (/^\d{1,5}$/.test(value)) return this.parse(Number(value));
    const hex = /^(?:0x)?([0-9a-f]{16})$/i.exec(value);
    return hex === null
      ? { problem: `is the text ${quote(value)}` }
      : { value: hex[1]!.toLowerCase() };
  },
};

const bytes: Format = {
  allowed: 'a number of bytes or a size such as "64 MiB"',
  parse(value) {
    if (typeof value === 'number') {
      return Number.isSafeInteger(value) ? { value } : { problem: `is the number ${value}` };
    }
    if (typeof value !== 'string') return { problem: `is ${describe(value)}` };
    const parsed = parseBytes(value);
    return parsed === null ? { problem: `is the text ${quote(value)}` } : { value: parsed };
  },
};

export const FORMATS = {
  iscsiName,
  portal,
  listen,
  tcpListen,
  busUrl,
  httpUrl,
  directory,
  filePath,
  caFile,
  envName,
  chapName,
  lun,
  bytes,
} as const satisfies Record<string, Format>;
export type FormatName = keyof typeof FORMATS;
