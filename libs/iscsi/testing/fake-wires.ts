import { NO_DEADLINE } from '../../block/device.ts';
import { VirtualClock } from '../../testkit/virtual-clock.ts';
import type { Address, ByteStream, Listener, Network, StreamSink } from '../../wire/network.ts';
import { IscsiLun } from '../lun.ts';
import { openSession } from '../open-session.ts';
import type { ScsiCommand } from '../pdu/index.ts';
import { Opcode } from '../pdu/opcodes.ts';
import type { IscsiSession } from '../session.ts';
import type { SessionEvent } from '../session-control.ts';
import type { OpenSessionOptions } from '../session-options.ts';
import { facts, LUN, openOptions, watch } from './fake-session.ts';
import { FakeTarget, settle } from './fake-target.ts';

/** A target with a fake of its own at the end of each connection, which count the commands of their session together. */
export class FakeWires implements Network {
  readonly wires: FakeTarget[] = [];
  readonly addresses: Address[] = [];
  /** What each wire is before its login begins. Throw to refuse the connection. */
  setUp: (wire: FakeTarget, index: number) => void = () => {};

  async connect(address: Address, sink: StreamSink): Promise<ByteStream> {
    const wire = new FakeTarget();
    this.setUp(wire, this.wires.length);
    this.wires.push(wire);
    this.addresses.push(address);
    const stream = await wire.connect(address, sink);
    wire.onCommand = () => {
      for (const other of this.wires) {
        if (((wire.expCmdSn - other.expCmdSn) | 0) > 0) other.expCmdSn = wire.expCmdSn;
      }
    };
    return stream;
  }

  listen(): Promise<Listener> {
    throw new Error('a fake target does not listen');
  }
}

export interface WiresRig {
  readonly net: FakeWires;
  readonly clock: VirtualClock;
  readonly session: IscsiSession;
  readonly lun: IscsiLun;
  readonly events: SessionEvent[];
  wire(index: number): FakeTarget;
  commands(index: number): ScsiCommand[];
  read(into: Buffer, offset?: number): ReturnType<typeof watch>;
  write(from: Buffer, offset?: number): ReturnType<typeof watch>;
}

/** A session over several connections with a LUN on it. */
export async function wires(
  connections: number,
  setUp: (wire: FakeTarget, index: number) => void = () => {},
  options: Partial<OpenSessionOptions> = {},
): Promise<WiresRig> {
  const net = new FakeWires();
  net.setUp = (wire, index) => {
    wire.wants = { ...wire.wants, MaxConnections: 8, ErrorRecoveryLevel: 2 };
    setUp(wire, index);
  };
  const clock = new VirtualClock();
  const base = openOptions(net.wires[0] ?? new FakeTarget(), clock);
  const session = await openSession({ ...base, network: net, connections, ...options });
  const events: SessionEvent[] = [];
  session.onEvent((event) => events.push(event));
  const lun = new IscsiLun(session, LUN, facts);
  await settle();
  await settle();
  return {
    net,
    clock,
    session,
    lun,
    events,
    wire: (index) => net.wires[index]!,
    commands: (index) => net.wires[index]!.of(Opcode.ScsiCommand).map((one) => one.pdu),
    read: (into, offset = 0) => watch(lun.read(offset, into, NO_DEADLINE)),
    write: (from, offset = 0) => watch(lun.write(offset, from, 0, NO_DEADLINE)),
  };
}
