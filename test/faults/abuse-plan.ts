import { intBetween, pick, type Rng } from '#core/rng.ts';
import type { Params } from '#iscsi/keys.ts';
import type { Faults } from '#target/faults.ts';
import type { TargetParams } from '#target/target.ts';
import type { VirtualClock } from '#testkit/virtual-clock.ts';

/** What the seed of an episode decides on before its first login, and what goes wrong in the course of it. */

const CONNECTIONS_MAX = 4;

/** What the sessions of an episode ask for. */
export interface Plan {
  readonly digests: boolean;
  readonly errorRecoveryLevel: 0 | 1 | 2;
  readonly connections: number;
  readonly fastAbort: boolean;
  readonly params: Partial<Params>;
}

export function drawPlan(rng: Rng): Plan {
  const errorRecoveryLevel = pick(rng, [0, 0, 1, 2] as const);
  return {
    digests: rng.float() < 0.5,
    errorRecoveryLevel,
    // Two of five have one: what is wrong there is easier to see.
    connections: pick(rng, [1, 1, 2, 3, CONNECTIONS_MAX]),
    fastAbort: rng.float() < 0.5,
    params: {
      InitialR2T: rng.float() < 0.5,
      DataPDUInOrder: rng.float() < 0.7,
      DataSequenceInOrder: rng.float() < 0.7,
    },
  };
}

/** What the target takes and asks for. */
export function drawParams(rng: Rng, plan: Plan): TargetParams {
  const { digests, connections, errorRecoveryLevel: level } = plan;
  const maxBurstLength = pick(rng, [512, 2048, 8192, 65_536]);
  return {
    initialR2T: rng.float() < 0.5,
    immediateData: rng.float() < 0.5,
    maxRecvDataSegmentLength: pick(rng, [512, 1000, 8192, 262_144]),
    maxBurstLength,
    firstBurstLength: Math.min(maxBurstLength, pick(rng, [512, 4096, 65_536])),
    maxOutstandingR2T: pick(rng, [1, 2, 8]),
    commandWindow: pick(rng, [1, 2, 64]),
    nopIntervalMs: pick(rng, [0, 500]),
    headerDigest: digests ? 'CRC32C' : pick(rng, ['None', 'CRC32C,None'] as const),
    dataDigest: digests ? 'CRC32C' : 'None',
    ...{ maxConnections: connections, errorRecoveryLevel: level },
    time2Wait: pick(rng, [0, 0, 1]),
    time2Retain: pick(rng, [0, 3, 20]),
    dataPduInOrder: rng.float() < 0.7,
    dataSequenceInOrder: rng.float() < 0.7,
    acknowledgeData: rng.float() < 0.5,
    taskReporting: plan.fastAbort ? 'FastAbort,ResponseFence,RFC3720' : 'RFC3720',
    protocolLevel: pick(rng, [1, 2]),
  };
}

/** One fault of a target that is otherwise honest. */
export function armFault(rng: Rng, faults: Faults, clock: VirtualClock): void {
  const count = intBetween(rng, 1, 3);
  const nth = intBetween(rng, 1, 4);
  const opcode = pick(rng, [0x20, 0x21, 0x22, 0x25, 0x31]);
  const where = rng.float() < 0.7 ? { cid: intBetween(rng, 0, CONNECTIONS_MAX - 1) } : {};
  const kinds: readonly (() => void)[] = [
    () => faults.busy({ count }),
    () => faults.taskSetFull({ count }),
    () => faults.status(intBetween(rng, 1, 255), { count }),
    () =>
      faults.checkCondition([intBetween(rng, 0, 15), rng.u32() & 0xff, rng.u32() & 0xff], {
        count,
      }),
    () => faults.delay({ ms: intBetween(rng, 1, 20_000), count }),
    () => faults.cut({ direction: 'sent', nth }),
    () => faults.cut({ direction: 'received', nth }),
    () => faults.drop({ direction: 'sent', opcode, nth }),
    () => faults.drop({ direction: 'received', nth }),
    () =>
      faults.corrupt(pick(rng, ['garbage', 'oversized', 'truncated', 'unknown-opcode']), { nth }),
    () => {
      const silence = faults.silent({ execute: rng.float() < 0.5 });
      clock.after(intBetween(rng, 1, 8000), () => silence.remove());
    },
    () => faults.reject(intBetween(rng, 1, 12), { nth }),
    () => faults.skipStatSn(count, where),
    () => faults.cutAfter(pick(rng, ['received', 'sent']), intBetween(rng, 1, 20_000), where),
    () => faults.sendReject(intBetween(rng, 1, 12), Buffer.alloc(48, opcode), where),
    () => {
      const seconds = () => intBetween(rng, 0, 3);
      const event = pick(rng, [0, 1, 2, 3, 4, 5, 5, 5, 77, 255]);
      const told = { parameter1: seconds(), parameter2: seconds(), parameter3: seconds() };
      faults.asyncEvent({ event, lun: 0, ...told }, where);
    },
    () => faults.answerLogout({ response: intBetween(rng, 0, 3) }, { count }),
    () => faults.answerTaskFunction(pick(rng, [0, 1, 3, 4, 5, 255, 'silence']), { count }),
  ];
  pick(rng, kinds)();
}
