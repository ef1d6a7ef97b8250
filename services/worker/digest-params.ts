import type { TargetConfig } from '#config/schema.ts';
import type { Params } from '#iscsi/keys.ts';

/** The lists that the login offers, the first preferred (RFC 7143 §13.1). */
const OFFERS = { none: 'None', crc32c: 'CRC32C', 'prefer-crc32c': 'CRC32C,None' } as const;

/** What the configuration of a target says about digests; the usual for one that it does not have. */
export function digestParams(target: TargetConfig | undefined): Partial<Params> {
  if (target === undefined) return {};
  return {
    HeaderDigest: OFFERS[target.header_digest],
    DataDigest: OFFERS[target.data_digest],
  };
}
