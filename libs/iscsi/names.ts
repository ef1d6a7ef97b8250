/** §4.2.7.2: at most 223 bytes. */
export const NAME_BYTES_MAX = 223;

/** Why `name` is no iSCSI name, or null when it is one (RFC 7143 §4.2.7). */
export function nameInvalidReason(name: string): string | null {
  const bytes = Buffer.byteLength(name);
  if (bytes > NAME_BYTES_MAX) return `a name of ${bytes} bytes; ${NAME_BYTES_MAX} is the most`;
  if (/^iqn\./i.test(name)) {
    // iqn.YYYY-MM.reversed.domain[:anything]
    if (!/^iqn\.\d{4}-(?:0[1-9]|1[0-2])\.[^\s:]+(?::\S+)?$/i.test(name)) {
      return 'an iqn. name has the form iqn.2026-11.com.example:anything (§4.2.7.4)';
    }
    return null;
  }
  if (/^eui\./i.test(name)) {
    return /^eui\.[0-9a-f]{16}$/i.test(name) ? null : 'an eui. name has 16 digits (§4.2.7.5)';
  }
  if (/^naa\./i.test(name)) {
    const good = /^naa\.(?:[0-9a-f]{16}|[0-9a-f]{32})$/i.test(name);
    return good ? null : 'a naa. name has 16 or 32 digits (§4.2.7.6)';
  }
  return 'a name begins with iqn., eui. or naa. (§4.2.7.3)';
}

/** Names are compared and sent in one form: NFKC and lower case (§4.2.7.2). */
export function normalizeName(name: string): string {
  return name.normalize('NFKC').toLowerCase();
}
