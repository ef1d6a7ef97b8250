/** One armed fault. */
export interface Fault {
  readonly name: string;
  /** How often it has struck. */
  readonly hits: number;
  remove(): void;
}

/** A fault that stands in the list of its kind until it is spent or removed. */
export abstract class Armed implements Fault {
  readonly name: string;
  hits = 0;
  readonly #count: number;
  readonly #list: Armed[];

  constructor(name: string, count: number | undefined, list: Armed[]) {
    this.name = name;
    this.#count = count ?? Number.POSITIVE_INFINITY;
    this.#list = list;
    list.push(this);
  }

  strike(): void {
    this.hits += 1;
    if (this.hits >= this.#count) this.remove();
  }

  remove(): void {
    const index = this.#list.indexOf(this);
    if (index >= 0) this.#list.splice(index, 1);
  }
}

/** What it strikes, and what it does. */
export class Rule<M, E> extends Armed {
  readonly match: M;
  readonly effect: E;
  /** Matching PDUs to let pass. */
  skip = 0;

  constructor(name: string, match: M & { count?: number }, effect: E, list: Rule<M, E>[]) {
    super(name, match.count, list as Armed[]);
    this.match = match;
    this.effect = effect;
  }
}

/** The effect of the first rule that is about it, which has struck then; null when there is none. */
export function strikeFirst<M, E>(rules: readonly Rule<M, E>[], isAbout: (match: M) => boolean) {
  for (const rule of rules) {
    if (!isAbout(rule.match)) continue;
    rule.skip -= 1;
    if (rule.skip >= 0) continue;
    rule.strike();
    return rule.effect;
  }
  return null;
}
