import { timingSafeEqual } from 'node:crypto';
import type { Rng } from '../core/rng.ts';
import type { IssuedChallenges } from '../iscsi/chap-challenges.ts';
import {
  algorithmOf,
  type ChapAlgorithm,
  chapAlgorithms,
  chapResponse,
  formatChapBinary,
  parseChapBinary,
} from '../iscsi/chap-digest.ts';
import { parseNumber, type TextPair } from '../iscsi/text.ts';
import { Secret } from '../security/secret.ts';

export interface ChapAccount {
  readonly user: string;
  readonly secret: string;
}

/** Who may log in, and as whom the target proves itself to those who ask. */
export interface TargetChap extends ChapAccount {
  readonly mutual?: ChapAccount;
  /** All when left out; of those the first that the initiator lists. */
  readonly algorithms?: readonly ChapAlgorithm[];
}

const ALL = Object.keys(chapAlgorithms) as ChapAlgorithm[];

const ID_MAX = 255;

type State = 'method' | 'list' | 'response' | 'done';

/** The target's side of CHAP in one login (§12.1.3). Whatever is wrong has one answer: authentication failure. */
export class ChapGuard {
  readonly #options: TargetChap;
  readonly #rng: Rng;
  readonly #challenges: IssuedChallenges;
  #state: State = 'method';
  #algorithm: ChapAlgorithm = 'md5';
  #id = 0;
  #challenge: Buffer = Buffer.alloc(0);

  constructor(options: TargetChap, rng: Rng, challenges: IssuedChallenges) {
    this.#options = options;
    this.#rng = rng;
    this.#challenges = challenges;
  }

  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** The initiator has offered methods yet. */
  get hasBegun(): boolean {
    return this.#state !== 'method';
  }

  /** The answer to the list of AuthMethod; null when CHAP is not in it. */
  choose(methods: string): string | null {
    if (this.#state !== 'method' || !methods.split(',').includes('CHAP')) return null;
    this.#state = 'list';
    return 'CHAP';
  }

  /** Takes the CHAP keys of one request. Null: the login fails. */
  take(values: ReadonlyMap<string, string>): readonly TextPair[] | null {
    switch (this.#state) {
      case 'list':
        return this.#takeList(values);
      case 'response':
        return this.#takeResponse(values);
      default:
        return null;
    }
  }

  #takeList(values: ReadonlyMap<string, string>): readonly TextPair[] | null {
    const ours = this.#options.algorithms ?? ALL;
    const theirs = (values.get('CHAP_A') ?? '').split(',').map((text) => {
      return algorithmOf(parseNumber(text));
    });
    const chosen = theirs.find((algorithm) => algorithm !== null && ours.includes(algorithm));
    if (chosen === undefined || chosen === null || values.size > 1) return null;
    const { number, digestBytes } = chapAlgorithms[chosen];
    const drawn = Buffer.alloc(1 + digestBytes);
    this.#rng.fill(drawn);
    this.#algorithm = chosen;
    this.#id = drawn[0]!;
    this.#challenge = drawn.subarray(1);
    this.#challenges.add(this.#challenge);
    this.#state = 'response';
    return [
      ['CHAP_A', String(number)],
      ['CHAP_I', String(this.#id)],
      ['CHAP_C', formatChapBinary(this.#challenge)],
    ];
  }

  #takeResponse(values: ReadonlyMap<string, string>): readonly TextPair[] | null {
    const { user, secret, mutual } = this.#options;
    const response = parseChapBinary(values.get('CHAP_R') ?? '');
    if (response === null) return null;
    const right = this.#answer(this.#id, secret, this.#challenge);
    if (!isSame(response, right) || values.get('CHAP_N') !== user) return null;
    const asksBack = values.has('CHAP_I') || values.has('CHAP_C');
    if (values.size !== (asksBack ? 4 : 2)) return null;
    if (!asksBack) {
      this.#state = 'done';
      return [];
    }
    const id = parseNumber(values.get('CHAP_I') ?? '');
    const challenge = parseChapBinary(values.get('CHAP_C') ?? '');
    if (mutual === undefined || id === null || id > ID_MAX || challenge === null) return null;
    // §9.2.1: what we asked, here or on another connection, we do not answer.
    if (this.#challenges.has(challenge)) return null;
    this.#state = 'done';
    return [
      ['CHAP_N', mutual.user],
      ['CHAP_R', formatChapBinary(this.#answer(id, mutual.secret, challenge))],
    ];
  }

  #answer(id: number, secret: string, challenge: Buffer): Buffer {
    return chapResponse(this.#algorithm, id, new Secret(secret), challenge);
  }
}

function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
