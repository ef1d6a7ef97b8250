/** Key=value text of login and text PDUs (RFC 7143 §6.1). */

export type TextPair = readonly [key: string, value: string];

/** Text of one negotiation sequence; §6.1 asks for 8192 at least, 64 KiB with long authentication items. */
export const TEXT_BYTES_MAX = 64 * 1024;

/** §6.1: a standard-label begins with a capital letter and has at most 63 characters. iSCSIProtocolLevel has none. */
const KEY = /^(?:[A-Z][A-Za-z0-9.\-+@_#]{0,62}|iSCSIProtocolLevel)$/;

/** Pairs are longer than this on average; so many more are not looked at. */
const BYTES_PER_PAIR = 16;

export type ParsedText =
  | { readonly pairs: readonly TextPair[]; readonly error: null }
  | { readonly pairs: null; readonly error: string };

const bad = (error: string): ParsedText => ({ pairs: null, error });

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Each pair is followed by one zero byte, the last one too. */
export function encodeText(pairs: readonly TextPair[]): Buffer {
  return Buffer.from(pairs.map(([key, value]) => `${key}=${value}\0`).join(''), 'utf8');
}

/** Parses a whole logical text data segment (the parts of PDUs with the C bit joined). */
export function parseText(bytes: Uint8Array, bytesMax = TEXT_BYTES_MAX): ParsedText {
  if (bytes.length === 0) return { pairs: [], error: null };
  if (bytes.length > bytesMax) return bad(`text of ${bytes.length} bytes (§6.1)`);
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return bad('text that is not UTF-8 (§6.1)');
  }
  if (!text.endsWith('\0')) return bad('text without its final zero byte (§6.1)');
  const items = text.slice(0, -1).split('\0');
  const pairsMax = Math.ceil(bytesMax / BYTES_PER_PAIR);
  if (items.length > pairsMax) return bad(`more than ${pairsMax} keys (§6.1)`);
  const pairs: TextPair[] = [];
  for (const item of items) {
    // Some targets pad their text with zero bytes inside the segment.
    if (item === '') continue;
    const equals = item.indexOf('=');
    if (equals < 0) return bad(`text without "=": ${JSON.stringify(item.slice(0, 80))} (§6.1)`);
    const key = item.slice(0, equals);
    if (!KEY.test(key)) return bad(`a key named ${JSON.stringify(key.slice(0, 80))} (§6.1)`);
    pairs.push([key, item.slice(equals + 1)]);
  }
  return { pairs, error: null };
}

/** Cuts text into data segments of at most `maxBytes`; all but the last are sent with C=1 (§11.12.2). Never empty. */
export function splitText(text: Buffer, maxBytes: number): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < text.length; at += maxBytes) parts.push(text.subarray(at, at + maxBytes));
  return parts.length === 0 ? [text] : parts;
}

/** A numerical-value: decimal without leading zeroes, or 0x hexadecimal (§6.1). Null when it is none. */
export function parseNumber(text: string): number | null {
  if (!/^(?:0|[1-9][0-9]{0,19}|0[xX][0-9a-fA-F]{1,16})$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
}

/** A binary-value: 0x hexadecimal or 0b base64 (§6.1). Null when it is none. */
export function parseBinary(text: string): Buffer | null {
  if (/^0[xX][0-9a-fA-F]+$/.test(text)) {
    const digits = text.slice(2);
    return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
  }
  if (/^0[bB][0-9a-zA-Z+/]+={0,2}$/.test(text)) return Buffer.from(text.slice(2), 'base64');
  return null;
}

/** Yes or No (§6.1). Null when it is neither. */
export function parseBoolean(text: string): boolean | null {
  if (text === 'Yes') return true;
  return text === 'No' ? false : null;
}
