/**
 * Text that a peer may have had a hand in, for a line that a person reads: what would move the cursor of a terminal, or begin
 * a line of its own, is shown as a question mark.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]/gu, '?');
}
