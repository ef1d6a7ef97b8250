/** §4.2.7.2: at most 223 bytes. */
export const NAME_BYTES_MAX = 223;

/**
 * Why `name` is no iSCSI name, or null when it is one (RFC 7143 §4.2.7). Judged in its normalised form, since that is what
 * is sent. RFC 3722 has no underscore; names with one are in use everywhere.
 */
export function nameInvalidReason(name: string): string | null {
  const normal = normalizeName(name);
  const bytes = Buffer.byteLength(normal);
  if (bytes > NAME_BYTES_MAX) return `a name of ${bytes} bytes; ${NAME_BYTES_MAX} is the most`;
  const odd = /[^\p{L}\p{N}\p{M}._:-]/u.exec(normal);
  if (odd !== null) return `${JSON.stringify(odd[0])} may not be in a name (RFC 3722 §6)`;
  switch (/^(iqn|eui|naa)\./.exec(normal)?.[1]) {
    case 'iqn':
      return /^iqn\.\d{4}-(?:0[1-9]|1[0-2])\.[^:]+(?::.+)?$/.test(normal)
        ? null
        : 'an iqn. name has the form iqn.2026-11.com.example:anything (§4.2.7.4)';
    case 'eui':
      return /^eui\.[0-9a-f]{16}$/.test(normal) ? null : 'an eui. name has 16 digits (§4.2.7.5)';
    case 'naa':
      return /^naa\.(?:[0-9a-f]{16}|[0-9a-f]{32})$/.test(normal)
        ? null
        : 'a naa. name has 16 or 32 digits (§4.2.7.6)';
    default:
      return 'a name begins with iqn., eui. or naa. (§4.2.7.3)';
  }
}

/** Names are compared and sent in one form: NFKC and lower case (§4.2.7.2). */
export function normalizeName(name: string): string {
  return name.normalize('NFKC').toLowerCase().normalize('NFKC');
}
