import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../block/memory.ts';
import { systemClock } from '../../core/clock.ts';
import { tempDir } from '../../testkit/tmp.ts';
import { BufferPool } from '../../wire/buffer-pool.ts';
import type { Address } from '../../wire/network.ts';
import { nodeNetwork } from '../../wire/node-network.ts';
import type { NbdExport } from '../export.ts';
import { NbdServer } from '../server.ts';
import { EXPORT_BYTES, EXPORT_DESCRIPTION, EXPORT_NAME, title } from './case.ts';
import { handshakeRows } from './handshake-rows.ts';
import { RawPeer } from './raw-peer.ts';
import { transmissionRows } from './transmission-rows.ts';

/** The same rows run against qemu-nbd and nbdkit in test/interop/nbd-controls.test.ts. */
describe.each([512, 4096])('NBD conformance with blocks of %i bytes', (blockBytes) => {
  const pool = new BufferPool({ checkOwnership: true });
  const dir = tempDir('nbdrows');
  const address: Address = { kind: 'unix', path: dir.file('nbd.sock') };
  const device = new MemoryDevice({ sizeBytes: EXPORT_BYTES, blockBytes });
  const exp: NbdExport = { name: EXPORT_NAME, description: EXPORT_DESCRIPTION, device };
  const server = new NbdServer({
    network: nodeNetwork,
    clock: systemClock,
    pool,
    exports: { list: () => [exp], find: (name) => (name === EXPORT_NAME ? exp : null) },
  });

  beforeAll(async () => {
    await server.listen(address);
  });

  afterAll(async () => {
    await server.drain(5_000);
    await dir.remove();
    expect(pool.takenBytes).toBe(0);
  });

  for (const row of [...handshakeRows, ...transmissionRows]) {
    test(title(row), () => row.run({ server: 'own', connect: () => RawPeer.connect(address) }));
  }
});
