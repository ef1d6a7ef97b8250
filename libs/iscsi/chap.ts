import { timingSafeEqual } from 'node:crypto';
import { assert } from '../core/assert.ts';
import type { OrionError } from '../core/errors.ts';
import type { Rng } from '../core/rng.ts';
import type { Secret } from '../security/secret.ts';
import type { IssuedChallenges } from './chap-challenges.ts';
import {
  algorithmOf,
  type ChapAlgorithm,
  chapAlgorithms,
  chapResponse,
  formatChapBinary,
  isBase64,
  parseChapBinary,
} from './chap-digest.ts';
import { iscsiErrors } from './errors.ts';
import type { Authenticator } from './login.ts';
import { parseNumber, type TextPair } from './text.ts';

/** §9.2.1: 96 bits are the least without IPsec. */
export const SECRET_BYTES_MIN = 12;

/** §6.1: a text-value. */
const NAME_BYTES_MAX = 255;

const ID_MAX = 255;

/** MD5 first: some targets take the first that they know, and tgt means SHA-1 by the number of SHA-256. */
export const DEFAULT_CHAP_ALGORITHMS: readonly ChapAlgorithm[] = [
  'md5',
  'sha3-256',
  'sha256',
  'sha1',
];

export interface ChapIdentity {
  /** CHAP_N: any name, not an iSCSI name by need. */
  readonly user: string;
  readonly secret: Secret;
}

/** How we show a target who we are, and what it has to show us. */
export interface ChapOptions extends ChapIdentity {
  /** Who the target has to prove to be. */
  readonly mutual?: ChapIdentity;
  /** In the order of preference; `DEFAULT_CHAP_ALGORITHMS` when left out. MD5 has to be one (§12.1.3). */
  readonly algorithms?: readonly ChapAlgorithm[];
  /** False: a target that wants no authentication is taken too. */
  readonly isRequired?: boolean;
  /** Send answers made with secrets below 96 bits (where IPsec protects the connection). */
  readonly allowWeakSecrets?: boolean;
  /** Shared by all sessions of a process. */
  readonly challenges: IssuedChallenges;
}

type State = 'method' | 'list' | 'proof' | 'done';

interface Answer {
  readonly algorithm: ChapAlgorithm;
  readonly id: number;
  readonly challenge: Buffer;
  /** As the target writes binary values, we write them too: surely it reads them (§6.1 has two ways). */
  readonly base64: boolean;
}

/** The initiator's side of CHAP in one login (RFC 7143 §12.1.3). Throws where the secrets may not be used. */
export class ChapAuthenticator implements Authenticator {
  readonly offer: string;
  readonly #options: ChapOptions;
  readonly #rng: Rng;
  #state: State = 'method';
  /** What the target has to answer. */
  #own: Answer | null = null;
  #algorithm: ChapAlgorithm | null = null;

  constructor(options: ChapOptions, rng: Rng) {
    checkSecrets(options);
    this.#options = options;
    this.#rng = rng;
    // Who wants a proof of the target cannot let it choose to give none.
    const takesNone = options.isRequired === false && options.mutual === undefined;
    this.offer = takesNone ? 'CHAP,None' : 'CHAP';
  }

  get mayAskToGoOn(): boolean {
    return this.#state === 'proof' || this.#state === 'done';
  }

  get missing(): OrionError | null {
    if (this.#state === 'done') return null;
    if (this.#state !== 'proof') return iscsiErrors.make('ISCSI_CHAP_SKIPPED');
    return iscsiErrors.make('ISCSI_CHAP_SKIPPED', {
      message: 'the target goes on without proving who it is',
      hint: 'Give the target the name and secret of mutual CHAP ("outgoing"), or do not ask for them.',
    });
  }

  get summary(): string {
    if (this.#algorithm === null) return 'none, as the target wishes';
    const { user, mutual } = this.#options;
    const ours = `CHAP with ${this.#algorithm} as ${shown(user)}`;
    return mutual === undefined
      ? ours
      : `${ours}; the target has proven to be ${shown(mutual.user)}`;
  }

  /** Whether the login ended while the target was to choose from our list. */
  get awaitsChoice(): boolean {
    return this.#state === 'list';
  }

  step(method: string, pairs: readonly TextPair[]): readonly TextPair[] | OrionError {
    const values = new Map(pairs);
    if (values.size < pairs.length) return badAnswer('a CHAP key came twice (§6.3)');
    if (method === 'None') this.#state = 'done';
    if (this.#state === 'method') {
      this.#state = 'list';
      if (values.size > 0) return badAnswer('CHAP keys before we offered an algorithm');
      return [['CHAP_A', this.#algorithms.map((name) => chapAlgorithms[name].number).join(',')]];
    }
    if (values.size === 0) return [];
    if (this.#state === 'list') return this.#takeChallenge(values);
    if (this.#state === 'proof') return this.#takeProof(values);
    return badAnswer(`${pairs[0]![0]} after the authentication`);
  }

  get #algorithms(): readonly ChapAlgorithm[] {
    return this.#options.algorithms ?? DEFAULT_CHAP_ALGORITHMS;
  }

  #takeChallenge(values: ReadonlyMap<string, string>): readonly TextPair[] | OrionError {
    const given = this.#readChallenge(values);
    if (!('algorithm' in given)) return given;
    const { algorithm, id, challenge, base64 } = given;
    // §9.2.1: somebody lets us answer what we asked on another connection.
    if (this.#options.challenges.has(challenge)) return reflected('a challenge of ours');
    const { user, secret, mutual } = this.#options;
    this.#algorithm = algorithm;
    const response = chapResponse(algorithm, id, secret, challenge);
    const answer: TextPair[] = [
      ['CHAP_N', user],
      ['CHAP_R', formatChapBinary(response, base64)],
    ];
    if (mutual === undefined) {
      this.#state = 'done';
      return answer;
    }
    const own = this.#newChallenge(given);
    this.#own = own;
    this.#state = 'proof';
    const asked = formatChapBinary(own.challenge, base64);
    return [...answer, ['CHAP_I', String(own.id)], ['CHAP_C', asked]];
  }

  #readChallenge(values: ReadonlyMap<string, string>): Answer | OrionError {
    const chosen = values.get('CHAP_A');
    if (chosen === undefined) return badAnswer('CHAP_A is missing');
    const algorithm = algorithmOf(parseNumber(chosen));
    if (algorithm === null || !this.#algorithms.includes(algorithm)) {
      const offered = this.#algorithms.map((name) => chapAlgorithms[name].number).join(',');
      return iscsiErrors.make('ISCSI_CHAP_ALGORITHM', {
        message: `the target answers CHAP_A=${shown(chosen)} to our offer ${offered}`,
      });
    }
    const id = parseNumber(values.get('CHAP_I') ?? '');
    if (id === null || id > ID_MAX) return badAnswer('CHAP_I is no number from 0 to 255');
    const text = values.get('CHAP_C') ?? '';
    const challenge = parseChapBinary(text);
    if (challenge === null) return badAnswer('CHAP_C is no binary value of 1 to 1024 bytes');
    if (values.size > 3) return badAnswer('keys beside CHAP_A, CHAP_I and CHAP_C');
    return { algorithm, id, challenge, base64: isBase64(text) };
  }

  /** As long as the digest, and never what the target asked us (§9.2.1). */
  #newChallenge({ algorithm, base64, challenge: theirs }: Answer): Answer {
    const drawn = Buffer.alloc(1 + chapAlgorithms[algorithm].digestBytes);
    this.#rng.fill(drawn);
    const challenge = drawn.subarray(1);
    assert(!challenge.equals(theirs), 'random bytes do not repeat what came from outside');
    this.#options.challenges.add(challenge);
    return { algorithm, id: drawn[0]!, challenge, base64 };
  }

  #takeProof(values: ReadonlyMap<string, string>): readonly TextPair[] | OrionError {
    const { mutual, secret } = this.#options;
    const { algorithm, id, challenge } = this.#own!;
    const name = values.get('CHAP_N');
    const response = parseChapBinary(values.get('CHAP_R') ?? '');
    if (name === undefined) return badAnswer('CHAP_N is missing');
    if (response === null) return badAnswer('CHAP_R is missing or no binary value');
    if (values.size > 2) return badAnswer('keys beside CHAP_N and CHAP_R');
    // §9.2.1: the answer that we would give ourselves proves nothing.
    if (isSame(response, chapResponse(algorithm, id, secret, challenge))) {
      return reflected('the answer that our own secret makes');
    }
    const isRight = isSame(response, chapResponse(algorithm, id, mutual!.secret, challenge));
    if (name !== mutual!.user) {
      return iscsiErrors.make('ISCSI_CHAP_TARGET_FAILED', {
        message: `the target proves itself as ${shown(name)}, and is to be ${shown(mutual!.user)}`,
      });
    }
    if (!isRight) return iscsiErrors.make('ISCSI_CHAP_TARGET_FAILED');
    this.#state = 'done';
    return [];
  }
}

function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function checkSecrets(options: ChapOptions): void {
  const { mutual, allowWeakSecrets } = options;
  const list = options.algorithms ?? DEFAULT_CHAP_ALGORITHMS;
  assert(list.includes('md5'), 'every CHAP_A has MD5 (§12.1.3)');
  for (const { user, secret } of mutual === undefined ? [options] : [options, mutual]) {
    const bytes = Buffer.byteLength(user);
    assert(bytes > 0 && bytes <= NAME_BYTES_MAX && !user.includes('\0'), 'a CHAP name is a text');
    if (secret.length < SECRET_BYTES_MIN && allowWeakSecrets !== true) {
      throw iscsiErrors.make('ISCSI_CHAP_WEAK_SECRET', {
        message: `the CHAP secret of ${shown(user)} has fewer than ${SECRET_BYTES_MIN} bytes (96 bits, §9.2.1)`,
      });
    }
  }
  if (mutual?.secret.equals(options.secret) === true) {
    throw iscsiErrors.make('ISCSI_CHAP_EQUAL_SECRETS');
  }
}

function reflected(what: string): OrionError {
  return iscsiErrors.make('ISCSI_CHAP_REFLECTED', {
    message: `the target sends back ${what} (§9.2.1)`,
  });
}

function badAnswer(what: string): OrionError {
  return iscsiErrors.make('ISCSI_CHAP_BAD_ANSWER', {
    message: `the target breaks the rules of CHAP: ${what} (§12.1.3)`,
  });
}

const SHOWN_CHARS_MAX = 60;

function shown(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_CHARS_MAX));
}
