import { connect } from '@nats-io/transport-node';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../core/clock.ts';
import { systemRng } from '../../core/rng.ts';
import { haveNatsServer, startNatsServer } from '../../testkit/nats-server.ts';
import { busContract, eventually } from '../contract.ts';
import { connectNats, type NatsBusOptions } from './nats-bus.ts';

const base = { clock: systemClock, rng: systemRng } as const;

function open(url: string, name: string, more: Partial<NatsBusOptions> = {}) {
  return connectNats({ ...base, url, name, ...more });
}

describe.skipIf(!haveNatsServer() && process.env.CI !== 'true')('real nats-server', () => {
  busContract('NATS', async () => {
    const server = await startNatsServer();
    const a = await open(server.url, 'a');
    const b = await open(server.url, 'b');
    return {
      a,
      b,
      serverDown: () => server.kill('SIGKILL'),
      serverUp: () => server.restart(),
      serverWiped: () => server.restart({ wipe: true }),
      close: async () => {
        await a.close();
        await b.close();
        await server.stop();
      },
    };
  });
});

test.skipIf(!haveNatsServer() && process.env.CI !== 'true')(
  'what strangers publish in another encoding is counted and dropped',
  async () => {
    const server = await startNatsServer();
    const bus = await open(server.url, 'a');
    const stranger = await connect({ servers: server.url });
    try {
      const got: unknown[] = [];
      bus.subscribe('open.x', ({ data }) => got.push(data));
      await eventually(() => {
        stranger.publish('open.x', '{"json": true}, more');
        return bus.badMessages > 0;
      });
      expect(got).toEqual([]);
    } finally {
      await stranger.close();
      await bus.close();
      await server.stop();
    }
  },
);

test('a server that is not there is BUS_UNREACHABLE, says what to install, and hides the password', async () => {
  const error = await open('nats://user:secret@127.0.0.1:1', 'x').catch((e) => e);
  expect(error).toMatchObject({ code: 'BUS_UNREACHABLE', outcome: 'not-executed' });
  expect(error.describe()).toContain('nats-server');
  expect(error.describe()).toContain('bus.url');
  expect(error.describe()).not.toContain('secret');
});
