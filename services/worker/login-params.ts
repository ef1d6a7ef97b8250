import type { TargetConfig } from '#config/schema.ts';
import type { Params } from '#iscsi/keys.ts';

/** The lists that the login offers, the first preferred (RFC 7143 §13.1). */
const DIGESTS = { none: 'None', crc32c: 'CRC32C', 'prefer-crc32c': 'CRC32C,None' } as const;

/** §13.23: with anything better, what is below it has to be offered too. */
const TASK_REPORTING = {
  'fast-abort': 'FastAbort,ResponseFence,RFC3720',
  'response-fence': 'ResponseFence,RFC3720',
} as const;

type Offered = { -readonly [K in keyof Params]?: Params[K] | undefined };

/** What the configuration of a target says about its logins; the usual for one that it does not have. */
export function loginParams(target: TargetConfig | undefined): Partial<Params> {
  if (target === undefined) return {};
  const reporting = target.task_reporting;
  const params: Offered = {
    HeaderDigest: DIGESTS[target.header_digest],
    DataDigest: DIGESTS[target.data_digest],
    InitialR2T: target.initial_r2t,
    ImmediateData: target.immediate_data,
    MaxRecvDataSegmentLength: target.max_recv_data_segment_length,
    MaxBurstLength: target.max_burst_length,
    FirstBurstLength: target.first_burst_length,
    MaxOutstandingR2T: target.max_outstanding_r2t,
    // Undefined: not offered.
    TaskReporting: reporting === 'rfc3720' ? undefined : TASK_REPORTING[reporting],
    iSCSIProtocolLevel: target.protocol_level === 1 ? undefined : target.protocol_level,
  };
  return params as Partial<Params>;
}
