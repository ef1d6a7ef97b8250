import type { Timer } from '../core/clock.ts';
import { Fifo } from '../core/fifo.ts';
import { BHS_BYTES } from '../iscsi/pdu/bhs.ts';
import { opcodeOf } from '../iscsi/pdu/index.ts';
import { RejectReason } from '../iscsi/pdu/opcodes.ts';
import type { ByteStream, StreamSink } from '../wire/network.ts';
import { OutQueue } from '../wire/out-queue.ts';
import { type AsyncEventScript, sendAsyncMessage } from './async-message.ts';
import { corruptBytes } from './corruption.ts';
import { CuttableStream } from './cuttable-stream.ts';
import { Delivery } from './delivery.ts';
import type { Engine } from './engine.ts';
import type { Scriptable } from './fault-matches.ts';
import { FullFeature } from './full-feature.ts';
import { LoginPhase } from './login.ts';
import { PduReceiver } from './pdu-receiver.ts';
import { PduSender } from './pdu-sender.ts';
import type { ConnectionParams, Session } from './session.ts';
import type { Task } from './task.ts';

/** A connection must be logged in by then. */
const LOGIN_TIMEOUT_MS = 15_000;

/** While this much is unsent, answers wait, the command window closes and nothing more is read. */
const UNSENT_BYTES_MAX = 32 * 1024 * 1024;

/** After the last PDU the initiator has so long to close its side. */
const LINGER_MS = 2_000;

/** What handles the PDUs of a connection: the login first, then the full feature phase. */
export interface Phase {
  readonly dataLengthMax: number;
  /** A header, and whether data follows it. */
  onHeader(header: Buffer, at: number, dataLength: number): void;
  onData(data: Buffer | null): void;
  /** The data of the last header came with a wrong digest: it is as if the PDU had never come (§7.8). */
  onDiscarded(): void;
  /** The connection is over. */
  onOver(): void;
}

/** One TCP connection of an initiator. */
export class Connection implements StreamSink, Scriptable {
  readonly engine: Engine;
  readonly portalIndex: number;
  readonly tpgt: number;
  readonly sender: PduSender;
  readonly receiver: PduReceiver;
  session: Session | null = null;
  /** Its number in the session, given by the initiator. */
  cid = -1;
  /** Logged out, or ended for good: nothing of it is kept for a recovery. */
  isClosing = false;
  /** Null where one pass over the data is enough. */
  delivery: Delivery | null = null;
  /** When something last arrived. */
  lastReceivedMs: number;
  readonly #stream: CuttableStream;
  readonly #out: OutQueue;
  readonly #waiting = new Fifo<Task>();
  #phase: Phase;
  #fullFeature: FullFeature | null = null;
  #receiving: Task | null = null;
  #timer: Timer | null;
  #frozen = false;
  #paused = false;
  #muted = false;
  #lostAnswers = false;
  #over = false;
  /** Bytes that are received before the connection breaks: a fault. */
  #receivesAtMost = Number.POSITIVE_INFINITY;
  /** The header being handled is to be ignored with its data. */
  #dropping = false;

  constructor(engine: Engine, stream: ByteStream, portalIndex: number, tpgt: number) {
    this.engine = engine;
    this.portalIndex = portalIndex;
    this.tpgt = tpgt;
    this.#stream = new CuttableStream(stream);
    this.#out = new OutQueue(this.#stream, engine.pool);
    this.#out.onRelease(() => {
      this.#serveWaiting();
      this.#regulate();
    });
    this.sender = new PduSender(this.#out, engine.pool, engine.rng.u32(), (opcode) =>
      this.#maySend(opcode),
    );
    this.#phase = new LoginPhase(this);
    this.receiver = new PduReceiver(this);
    this.lastReceivedMs = engine.clock.nowMs();
    this.#timer = null;
    this.#armLoginTimeout();
    engine.connections.add(this);
    engine.faults.silence(this);
  }

  #armLoginTimeout(): void {
    this.#timer = this.engine.clock.after(LOGIN_TIMEOUT_MS, () => {
      // A process that is stopped drops nobody.
      if (this.#frozen) this.#armLoginTimeout();
      else this.drop('login timeout');
    });
  }

  get remote(): string {
    return this.#stream.remote;
  }

  get over(): boolean {
    return this.#over;
  }

  get params(): ConnectionParams {
    return this.sender.params;
  }

  // StreamSink

  buffer(): Buffer {
    return this.receiver.buffer();
  }

  data(chunk: Buffer, length: number): void {
    if (this.#over) return;
    this.lastReceivedMs = this.engine.clock.nowMs();
    this.#receivesAtMost -= length;
    if (this.#receivesAtMost <= 0) {
      this.receiver.push(chunk, length + this.#receivesAtMost);
      return this.drop('fault');
    }
    this.receiver.push(chunk, length);
    this.#regulate();
    // A stream that was paused before it began lets through what it reads first; the receiver keeps it.
    if (this.#paused) this.#stream.pause();
  }

  closed(): void {
    this.#finish();
  }

  // PduHandler

  get dataLengthMax(): number {
    return this.#phase.dataLengthMax;
  }

  onHeader(header: Buffer, at: number, dataLength: number): void {
    const opcode = opcodeOf(header, at);
    const verdict = this.engine.faults.onPdu(this, 'received', opcode);
    this.#dropping = verdict !== 'go';
    if (verdict === 'cut') return this.drop('fault');
    if (this.#dropping) {
      if (typeof verdict === 'object') {
        this.sendReject(verdict.reject, Buffer.from(header.subarray(at, at + BHS_BYTES)));
      }
      if (dataLength > 0) this.receiver.skip();
      return;
    }
    this.#phase.onHeader(header, at, dataLength);
  }

  onData(data: Buffer | null): void {
    const task = this.#receiving;
    this.#receiving = null;
    // Aborted meanwhile: its buffer was kept for what was arriving.
    if (task !== null && task.state === 'ended') this.engine.releaseData(task);
    if (!this.#dropping) this.#phase.onData(data);
  }

  onOversized(): void {
    // §13.12: the position in the stream could be kept, but a peer that ignores what we declared is not trusted.
    this.protocolError('a data segment longer than we declared');
  }

  onWrongDigest(part: 'header' | 'data', header: Buffer, at: number): boolean {
    // §7.8: where the next PDU begins is not known after a header that is wrong.
    if (part === 'header') {
      this.drop('wrong header digest');
      return false;
    }
    const { session } = this;
    if (session !== null) {
      const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
      this.sender.reject(RejectReason.DataDigestError, copy, session);
    }
    // §7.8 lets a target of ErrorRecoveryLevel 0 end it.
    if (session === null || session.params.errorRecoveryLevel === 0) this.end();
    else this.#discarded();
    return !this.#over;
  }

  /** A PDU is forgotten for its data. */
  #discarded(): void {
    const task = this.#receiving;
    this.#receiving = null;
    if (task !== null && task.state === 'ended') this.engine.releaseData(task);
    if (!this.#dropping) this.#phase.onDiscarded();
  }

  /** The last answer of the login is sent: what was agreed on holds from here on, in both directions. */
  useDigests(header: boolean, data: boolean): void {
    this.sender.useDigests(header, data);
    this.receiver.useDigests(header, data);
  }

  // The phases

  /** The login is done. */
  enterFullFeature(session: Session, cid: number, params: ConnectionParams): void {
    this.session = session;
    this.cid = cid;
    this.sender.params = params;
    session.connections.set(cid, this);
    if (needsDelivery(session)) {
      const asksForAcks = this.engine.options.params?.acknowledgeData ?? false;
      this.delivery = new Delivery(this.sender, session, asksForAcks);
    }
    this.#timer?.cancel();
    this.#timer = null;
    const phase = new FullFeature(this, session);
    this.#phase = phase;
    this.#fullFeature = phase;
  }

  /** A task that has lost its connection goes on over this one. */
  adopt(task: Task, expDataSn: number): void {
    this.#fullFeature?.adopt(task, expDataSn);
  }

  /** The data segment that follows goes into the buffer of `task`. */
  receiveInto(task: Task, at: number): void {
    if (task.dataOut === null || task.aborting) return this.receiver.skip();
    this.#receiving = task;
    this.receiver.place(task.dataOut, at);
  }

  isReceiving(task: Task): boolean {
    return this.#receiving === task;
  }

  // Answers

  /** False while answers must wait: nobody reads them, or a fault has stopped the target. */
  get takesAnswers(): boolean {
    return !this.#frozen && this.#out.unsentBytes < UNSENT_BYTES_MAX;
  }

  /** The task is executed when the connection takes answers again. */
  wait(task: Task): void {
    this.#waiting.push(task);
  }

  answer(task: Task): void {
    if (this.#over) return;
    const collapses = this.engine.options.behaviour?.statusWithData ?? true;
    if (this.delivery === null) this.sender.answer(task, collapses);
    else this.delivery.answer(task, collapses);
  }

  /** Reads while answers can be taken: a peer that asks and never reads is asked to wait. */
  #regulate(): void {
    if (this.#over || this.#paused === !this.takesAnswers) return;
    this.#paused = !this.#paused;
    if (this.#paused) {
      this.receiver.pause();
      this.#stream.pause();
    } else {
      this.#stream.resume();
      this.receiver.resume();
    }
  }

  #serveWaiting(): void {
    while (this.takesAnswers) {
      const task = this.#waiting.shift();
      if (task === undefined) return;
      this.engine.run(task);
    }
  }

  /** Asked by the sender before each PDU. */
  #maySend(opcode: number): boolean {
    if (this.#over) return false;
    if (this.#muted) {
      this.#lostAnswers = true;
      return false;
    }
    const verdict = this.engine.faults.onPdu(this, 'sent', opcode);
    if (verdict === 'go') return true;
    if (verdict === 'header-bit' || verdict === 'data-bit') {
      this.sender.damageNext(verdict);
      return true;
    }
    if (verdict === 'cut') this.#flushThen(() => this.drop('fault'));
    else if (typeof verdict === 'string' && verdict !== 'drop') this.#corrupt(verdict, opcode);
    return false;
  }

  #corrupt(kind: Parameters<typeof corruptBytes>[0], opcode: number): void {
    this.sender.raw(corruptBytes(kind, opcode, this.engine.rng));
    this.end();
  }

  // The end

  /** Answers with a Reject and ends the connection. */
  protocolError(why: string, header?: Buffer, at = 0): void {
    void why; // the text stands for the reader of the code; the peer is told by the Reject alone
    if (header !== undefined && this.session !== null) {
      const copy = Buffer.from(header.subarray(at, at + BHS_BYTES));
      this.sender.reject(RejectReason.ProtocolError, copy, this.session);
    }
    this.end();
  }

  /** Sends what is queued, then ends; what still arrives is ignored. */
  end(): void {
    if (this.#over) return;
    this.#out.flush();
    this.#stream.end();
    this.receiver.stop();
    this.#release();
    this.#timer = this.engine.clock.after(LINGER_MS, () => this.#stream.destroy());
  }

  /** Drops the connection at once, with a reset. */
  drop(why: string): void {
    if (this.#over) return;
    this.receiver.stop();
    this.#stream.destroy(new Error(why));
    this.#release();
  }

  #flushThen(fn: () => void): void {
    this.#out.flush();
    fn();
  }

  #finish(): void {
    this.#release();
    this.#timer?.cancel();
    this.#timer = null;
    this.#out.close();
    this.engine.connections.delete(this);
  }

  /** Parts from the session; the stream may still have something to send. */
  #release(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#phase.onOver();
    const receiving = this.#receiving;
    this.#receiving = null;
    if (this.session !== null) this.engine.connectionLost(this, this.session);
    if (receiving !== null && receiving.state === 'ended') this.engine.releaseData(receiving);
    // Tasks that waited for room in the queue need none now.
    for (const task of this.#waiting.drain()) this.engine.run(task);
  }

  // Faults

  get isLoggedIn(): boolean {
    return this.session !== null && !this.#over;
  }

  get initiatorName(): string {
    return this.session?.nexus.initiatorName ?? '';
  }

  skipStatSn(count: number): void {
    this.sender.takeStatSn(count);
  }

  sendAsync(script: AsyncEventScript): void {
    if (this.session !== null) sendAsyncMessage(this.sender, this.session, script);
  }

  sendReject(reason: number, header: Uint8Array): void {
    if (this.session === null) return;
    this.sender.reject(reason as RejectReason, header, this.session);
  }

  ping(): void {
    this.#fullFeature?.ping();
  }

  cutAfter(direction: 'received' | 'sent', bytes: number): void {
    if (direction === 'sent') this.#stream.cutAfter(bytes);
    else this.#receivesAtMost = bytes;
  }

  freeze(frozen: boolean): void {
    if (frozen === this.#frozen || this.#over) return;
    this.#frozen = frozen;
    if (!frozen) this.#serveWaiting();
    this.#regulate();
  }

  mute(muted: boolean): void {
    this.#muted = muted;
    if (!muted && this.#lostAnswers) this.drop('answers were lost');
  }
}

/** Whether data may have to be sent again, or may go in any order. */
function needsDelivery({ isDiscovery, params }: Session): boolean {
  if (isDiscovery) return false;
  const { errorRecoveryLevel, dataPduInOrder, dataSequenceInOrder } = params;
  return errorRecoveryLevel > 0 || !dataPduInOrder || !dataSequenceInOrder;
}
