/** Challenges that are remembered; logins that overlap in time are far fewer. */
const REMEMBERED_MAX = 4096;

/**
 * Challenges that this process has issued, on any connection. One that comes back as somebody's challenge to us is a
 * reflection: our answer to it would pass as theirs (§9.2.1).
 */
export class IssuedChallenges {
  /** In the order of issue. */
  readonly #issued = new Set<string>();

  add(challenge: Buffer): void {
    this.#issued.add(challenge.toString('latin1'));
    if (this.#issued.size > REMEMBERED_MAX)
      this.#issued.delete(this.#issued.values().next().value!);
  }

  has(challenge: Buffer): boolean {
    return this.#issued.has(challenge.toString('latin1'));
  }
}
