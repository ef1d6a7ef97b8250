import { assert } from '../core/assert.ts';
import {
  CLIENT_FLAGS_BYTES,
  ClientFlag,
  flagNames,
  HandshakeFlag,
  NbdInfo,
  NbdOpt,
  NbdRep,
  nameOf,
  OPTION_HEADER_BYTES,
  STRING_BYTES_MAX,
} from './constants.ts';
import {
  blockSizes,
  type ExportSource,
  type NbdClientInfo,
  type NbdExport,
  transmissionFlags,
} from './export.ts';
import type { NbdLimits } from './limits.ts';
import {
  decodeInfoRequest,
  decodeOptionHeader,
  decodeString,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfo,
  encodeOptionError,
  encodeOptionReply,
  encodeServer,
  isInvalid,
} from './options.ts';

/** Data of an option that we look at: a name, a count and 65535 information requests fit. Longer is skipped. */
const OPTION_DATA_BYTES_MAX = 6 + STRING_BYTES_MAX + 2 * 65535;

/** Declared length above which an option counts as an attack: the connection is dropped. */
const OPTION_LENGTH_MAX = 32 * 1024 * 1024;

/** Skipped data is received in pieces of this size. */
const SKIP_BYTES = 64 * 1024;

/** Options more that a client may send for each export that it was told of: one INFO and three others. */
const OPTIONS_PER_EXPORT = 4;

/** What was agreed on when the handshake ends in transmission. */
export interface Negotiated {
  readonly export: NbdExport;
  readonly sizeBytes: number;
  /** Transmission flags as advertised. */
  readonly flags: number;
  /** Requests must be multiples of this: 1 unless the client asked for the size constraints with GO. */
  readonly minimumBytes: number;
  readonly option: typeof NbdOpt.Go | typeof NbdOpt.ExportName;
}

export type HandshakeStep =
  | { readonly kind: 'more' }
  | { readonly kind: 'transmission'; readonly negotiated: Negotiated }
  /** The client is done: send what is queued, then close. */
  | { readonly kind: 'end' }
  /** Close without another byte. `violation`: the client broke the protocol. */
  | { readonly kind: 'drop'; readonly reason: string; readonly violation: boolean };

const MORE: HandshakeStep = { kind: 'more' };
const END: HandshakeStep = { kind: 'end' };

function violation(reason: string): HandshakeStep {
  return { kind: 'drop', reason, violation: true };
}

export interface HandshakeOptions {
  readonly client: NbdClientInfo;
  readonly exports: ExportSource;
  readonly limits: NbdLimits;
  /** True while the server shuts down: options are answered with ERR_SHUTDOWN. */
  readonly draining: () => boolean;
  readonly send: (bytes: Buffer) => void;
}

/**
 * The server's side of fixed newstyle negotiation (proto.md "Handshake"): fed with segments of the length that it
 * asks for in `need`. Knows no socket. Every path consumes exactly the declared length of an option and answers
 * once, so that an error never leaves the stream out of step.
 */
export class Handshake {
  readonly #o: HandshakeOptions;
  #state: 'flags' | 'header' | 'data' | 'skip' = 'flags';
  #need = CLIENT_FLAGS_BYTES;
  #clientFlags = 0;
  #option = 0;
  #length = 0;
  #skipLeft = 0;
  #options = 0;
  #optionsMax: number;

  constructor(options: HandshakeOptions) {
    this.#o = options;
    this.#optionsMax = options.limits.optionsMax;
    options.send(encodeGreeting(HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes));
  }

  /** Length of the next segment. */
  get need(): number {
    return this.#need;
  }

  /** True between messages: a client that leaves now breaks nothing. */
  get atBoundary(): boolean {
    return this.#state === 'flags' || this.#state === 'header';
  }

  /** Takes the segment of `need` bytes that begins at `at`. */
  segment(buffer: Buffer, at: number): HandshakeStep {
    switch (this.#state) {
      case 'flags':
        return this.#onFlags(buffer.readUInt32BE(at));
      case 'header':
        return this.#onHeader(buffer, at);
      case 'data':
        return this.#next(this.#onOption(buffer.subarray(at, at + this.#length)));
      case 'skip':
        this.#skipLeft -= this.#need;
        return this.#skip();
    }
  }

  #onFlags(flags: number): HandshakeStep {
    const known = ClientFlag.FixedNewstyle | ClientFlag.NoZeroes;
    // proto.md "Client flags": the server MUST drop the connection on a flag that it does not know.
    if ((flags & ~known) !== 0) {
      return violation(`client flags ${flagNames(ClientFlag, flags)} are not known`);
    }
    this.#clientFlags = flags;
    return this.#next(MORE);
  }

  #onHeader(buffer: Buffer, at: number): HandshakeStep {
    const header = decodeOptionHeader(buffer, at);
    if (header === null) return violation('an option does not begin with IHAVEOPT');
    this.#option = header.option;
    this.#length = header.length;
    this.#options += 1;
    if (this.#options > this.#optionsMax) {
      return violation(`more than ${this.#optionsMax} options without an end of the negotiation`);
    }
    if (header.length > OPTION_LENGTH_MAX) {
      return violation(`an option of ${header.length} bytes is too long`);
    }
    if (header.length > OPTION_DATA_BYTES_MAX) {
      this.#skipLeft = header.length;
      return this.#skip();
    }
    if (header.length === 0) return this.#next(this.#onOption(Buffer.alloc(0)));
    this.#state = 'data';
    this.#need = header.length;
    return MORE;
  }

  #next(step: HandshakeStep): HandshakeStep {
    this.#state = 'header';
    this.#need = OPTION_HEADER_BYTES;
    return step;
  }

  /** Consumes data that is too long to be looked at, then answers. */
  #skip(): HandshakeStep {
    if (this.#skipLeft > 0) {
      this.#state = 'skip';
      this.#need = Math.min(this.#skipLeft, SKIP_BYTES);
      return MORE;
    }
    return this.#next(this.#onOption(null));
  }

  /** `data` is null when it was too long to keep. */
  #onOption(data: Buffer | null): HandshakeStep {
    const option = this.#option;
    // proto.md "NBD_OPT_ABORT": always acknowledged, its data ignored, also while shutting down.
    if (option === NbdOpt.Abort) {
      this.#reply(NbdRep.Ack);
      return END;
    }
    if (option === NbdOpt.ExportName) return this.#onExportName(data);
    if (this.#o.draining()) return this.#error(NbdRep.ErrShutdown, 'the server is shutting down');
    // proto.md "Client flags": only EXPORT_NAME is safe with a client that is not of the fixed newstyle.
    if ((this.#clientFlags & ClientFlag.FixedNewstyle) === 0) {
      return this.#error(NbdRep.ErrInvalid, 'the client did not agree to the fixed newstyle');
    }
    switch (option) {
      case NbdOpt.List:
        return this.#onList(data);
      case NbdOpt.Info:
      case NbdOpt.Go:
        return this.#onInfo(data, option);
      case NbdOpt.StartTls:
        // proto.md "NOTLS mode".
        return this.#error(NbdRep.ErrPolicy, 'this listener has no TLS');
      default: {
        const name = nameOf(NbdOpt, option);
        return this.#error(NbdRep.ErrUnsup, `option ${name} is not supported`);
      }
    }
  }

  #onExportName(data: Buffer | null): HandshakeStep {
    // No error can be told here: proto.md "NBD_OPT_EXPORT_NAME" wants the session ended.
    if (data === null) return violation('the export name is too long');
    const name = decodeString(data);
    if (isInvalid(name)) return violation(`the export name is bad: ${name.invalid}`);
    if (this.#o.draining()) {
      return { kind: 'drop', reason: 'the server is shutting down', violation: false };
    }
    const found = this.#o.exports.find(name.text, this.#o.client);
    if (found === null) {
      return { kind: 'drop', reason: this.#whyNoExport(name.text), violation: false };
    }
    const flags = transmissionFlags(found);
    const { sizeBytes } = found.device.caps;
    const withPadding = (this.#clientFlags & ClientFlag.NoZeroes) === 0;
    this.#o.send(encodeExportNameReply(sizeBytes, flags, withPadding));
    const negotiated: Negotiated = {
      export: found,
      sizeBytes,
      flags,
      minimumBytes: 1,
      option: NbdOpt.ExportName,
    };
    return { kind: 'transmission', negotiated };
  }

  #whyNoExport(name: string): string {
    const reason = this.#o.exports.whyNot?.(name) ?? null;
    return reason ?? `there is no ${name === '' ? 'default export' : `export "${name}"`}`;
  }

  #onList(data: Buffer | null): HandshakeStep {
    if (data === null || data.length > 0) {
      return this.#error(NbdRep.ErrInvalid, 'LIST takes no data');
    }
    const listed = this.#o.exports.list(this.#o.client);
    if (listed === null) return this.#error(NbdRep.ErrPolicy, 'listing is not allowed');
    const { optionsMax } = this.#o.limits;
    this.#optionsMax = Math.max(this.#optionsMax, optionsMax + OPTIONS_PER_EXPORT * listed.length);
    for (const { name, description } of listed) {
      this.#reply(NbdRep.Server, encodeServer(name, description));
    }
    this.#reply(NbdRep.Ack);
    return MORE;
  }

  #onInfo(data: Buffer | null, option: typeof NbdOpt.Info | typeof NbdOpt.Go): HandshakeStep {
    if (data === null) return this.#error(NbdRep.ErrInvalid, 'the option data is too long');
    const request = decodeInfoRequest(data);
    if (isInvalid(request)) return this.#error(NbdRep.ErrInvalid, request.invalid);
    const found = this.#o.exports.find(request.name, this.#o.client);
    if (found === null) {
      return this.#error(NbdRep.ErrUnknown, this.#whyNoExport(request.name));
    }
    const flags = transmissionFlags(found);
    const { sizeBytes } = found.device.caps;
    const sizes = blockSizes(found, this.#o.limits.requestBytesMax);
    this.#reply(NbdRep.Info, encodeInfo.export(sizeBytes, flags));
    const asked = new Set(request.infos);
    if (asked.has(NbdInfo.Name)) {
      this.#reply(NbdRep.Info, encodeInfo.text(NbdInfo.Name, found.name));
    }
    if (asked.has(NbdInfo.Description)) {
      this.#reply(NbdRep.Info, encodeInfo.text(NbdInfo.Description, found.description));
    }
    if (asked.has(NbdInfo.BlockSize)) this.#reply(NbdRep.Info, encodeInfo.blockSizes(sizes));
    this.#reply(NbdRep.Ack);
    if (option === NbdOpt.Info) return MORE;
    const minimumBytes = asked.has(NbdInfo.BlockSize) ? sizes.minimum : 1;
    return {
      kind: 'transmission',
      negotiated: { export: found, sizeBytes, flags, minimumBytes, option },
    };
  }

  #reply(type: NbdRep, data?: Buffer): void {
    this.#o.send(encodeOptionReply(this.#option, type, data));
  }

  #error(type: NbdRep, text: string): HandshakeStep {
    assert(type >= NbdRep.ErrUnsup, 'an error has an error type');
    this.#o.send(encodeOptionError(this.#option, type, text));
    return MORE;
  }
}
