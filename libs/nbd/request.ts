import type { BlockErrno } from '../core/errors.ts';
import { CmdFlag, NbdCmd, NbdErr, TransmissionFlag } from './constants.ts';

/** One request from its header to its reply. Reused by its connection, its callbacks bound once. */
export class NbdRequest {
  command = 0;
  flags = 0;
  /** The client's cookie as two signed halves: opaque, and small integers to the engine. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Infinity when it is no safe integer. */
  offset = 0;
  length = 0;
  /** Payload bytes that are counted for it. */
  heldBytes = 0;
  buffer: Buffer | null = null;
  /** Why it is refused without asking the device; NbdErr.OK when it is not. */
  error = 0;
  reason = '';
  readonly onOk: () => void;
  readonly onFailed: (error: unknown) => void;

  constructor(
    onOk: (request: NbdRequest) => void,
    onFailed: (request: NbdRequest, error: unknown) => void,
  ) {
    this.onOk = () => onOk(this);
    this.onFailed = (error) => onFailed(this, error);
  }

  /** Reads the fields of a header whose magic was looked at. */
  decode(bytes: Buffer, at: number): void {
    this.flags = bytes.readUInt16BE(at + 4);
    this.command = bytes.readUInt16BE(at + 6);
    this.cookieHigh = bytes.readInt32BE(at + 8);
    this.cookieLow = bytes.readInt32BE(at + 12);
    const offsetHigh = bytes.readUInt32BE(at + 16);
    const offsetLow = bytes.readUInt32BE(at + 20);
    this.offset =
      offsetHigh <= OFFSET_HIGH_MAX
        ? offsetHigh * 0x1_0000_0000 + offsetLow
        : Number.POSITIVE_INFINITY;
    this.length = bytes.readUInt32BE(at + 24);
    this.error = NbdErr.OK;
  }
}

/** The high half of 2^53 - 1. */
const OFFSET_HIGH_MAX = 0x1fffff;

/** What an export allows, as its connection negotiated it. */
export interface RequestRules {
  readonly flags: number;
  readonly sizeBytes: number;
  readonly minimumBytes: number;
  readonly requestBytesMax: number;
}

/** Flags that a command may carry, and the transmission flag that must have been advertised for it (0: none). */
interface CommandRule {
  readonly cmdFlags: number;
  readonly needs: number;
  readonly writes: boolean;
  readonly payload: boolean;
}

/** proto.md "Request types" and "Command flags", for the commands that are in service. */
const COMMAND_RULES: readonly (CommandRule | undefined)[] = (() => {
  const rules: (CommandRule | undefined)[] = [];
  const { SendFlush, SendTrim, SendWriteZeroes } = TransmissionFlag;
  rules[NbdCmd.Read] = { cmdFlags: 0, needs: 0, writes: false, payload: true };
  rules[NbdCmd.Write] = { cmdFlags: 0, needs: 0, writes: true, payload: true };
  rules[NbdCmd.Flush] = { cmdFlags: 0, needs: SendFlush, writes: false, payload: false };
  rules[NbdCmd.Trim] = { cmdFlags: 0, needs: SendTrim, writes: true, payload: false };
  // CACHE may be used without having been advertised.
  rules[NbdCmd.Cache] = { cmdFlags: 0, needs: 0, writes: false, payload: false };
  rules[NbdCmd.WriteZeroes] = {
    cmdFlags: CmdFlag.NoHole | CmdFlag.FastZero,
    needs: SendWriteZeroes,
    writes: true,
    payload: false,
  };
  return rules;
})();

/** Sets `error` and `reason` of a request that breaks a rule, and says whether it does. */
export function refuse(request: NbdRequest, rules: RequestRules): boolean {
  request.error = check(request, rules);
  return request.error !== NbdErr.OK;
}

function check(request: NbdRequest, rules: RequestRules): NbdErr {
  const rule = COMMAND_RULES[request.command];
  if (rule === undefined) {
    request.reason = 'the command is not known';
    return NbdErr.EINVAL;
  }
  if (rule.writes && (rules.flags & TransmissionFlag.ReadOnly) !== 0) {
    request.reason = 'the export is read-only';
    return NbdErr.EPERM;
  }
  if ((rules.flags & rule.needs) !== rule.needs) {
    request.reason = 'the command was not advertised';
    return NbdErr.EINVAL;
  }
  if (request.flags !== 0 && !flagsAllowed(request.flags, rule, rules)) {
    request.reason = 'a flag is not allowed here';
    return NbdErr.EINVAL;
  }
  return checkRange(request, rule, rules);
}

function flagsAllowed(flags: number, rule: CommandRule, rules: RequestRules): boolean {
  let allowed = rule.cmdFlags;
  // proto.md "Command flags": FUA is valid on every command once it was advertised.
  if ((rules.flags & TransmissionFlag.SendFua) !== 0) allowed |= CmdFlag.Fua;
  if ((rules.flags & TransmissionFlag.SendFastZero) === 0) allowed &= ~CmdFlag.FastZero;
  return (flags & ~allowed) === 0;
}

function checkRange(request: NbdRequest, rule: CommandRule, rules: RequestRules): NbdErr {
  const { offset, length } = request;
  if (request.command === NbdCmd.Flush) {
    if (offset === 0 && length === 0) return NbdErr.OK;
    request.reason = 'a flush has no offset and no length';
    return NbdErr.EINVAL;
  }
  if (rule.payload && length > rules.requestBytesMax) {
    request.reason = `more than ${rules.requestBytesMax} bytes`;
    return NbdErr.EINVAL;
  }
  if (offset === Number.POSITIVE_INFINITY) {
    request.reason = 'the offset is 2^53 or more';
    return NbdErr.EINVAL;
  }
  if (offset + length > rules.sizeBytes) {
    request.reason = 'beyond the end of the export';
    // proto.md "Error values": ENOSPC for what would write there, EINVAL for the rest (a trim included).
    const fills = request.command === NbdCmd.Write || request.command === NbdCmd.WriteZeroes;
    return fills ? NbdErr.ENOSPC : NbdErr.EINVAL;
  }
  if (((offset | length) & (rules.minimumBytes - 1)) !== 0) {
    request.reason = `not a multiple of the minimum block size of ${rules.minimumBytes}`;
    return NbdErr.EINVAL;
  }
  return NbdErr.OK;
}

/** The error number of a device's errno: two of them are only allowed where proto.md documents them. */
export function replyError(errno: BlockErrno, request: NbdRequest): NbdErr {
  if (errno === 'ENOTSUP') {
    const fast = request.command === NbdCmd.WriteZeroes && (request.flags & CmdFlag.FastZero) !== 0;
    return fast ? NbdErr.ENOTSUP : NbdErr.EINVAL;
  }
  if (errno === 'EOVERFLOW') return NbdErr.EINVAL;
  return NbdErr[errno];
}
