import type { Bus } from '#bus/bus.ts';
import { connectNats } from '#bus/nats/nats-bus.ts';
import type { Clock } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import type { Rng } from '#core/rng.ts';
import type { Logger } from '#telemetry/log.ts';

export interface BusAccess {
  /** Without names and passwords. */
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  readonly token?: string;
  readonly tls?: Record<string, never>;
}

/** bus.url may carry who we are: "nats://user:password@host" or "nats://token@host", as NATS tools have it. */
export function busAccess(given: string): BusAccess {
  const urls = given.split(',').map((part) => new URL(part.trim()));
  const known = urls.find((url) => url.username !== '');
  const plain = urls.map((url) => `${url.protocol}//${url.host}`).join(',');
  const tls = urls.some((url) => url.protocol === 'tls:') ? { tls: {} } : {};
  if (known === undefined) return { url: plain, ...tls };
  const user = decodeURIComponent(known.username);
  if (known.password === '') return { url: plain, token: user, ...tls };
  return { url: plain, user, password: decodeURIComponent(known.password), ...tls };
}

export interface BusSetting {
  readonly url: string;
  readonly name: string;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log?: Logger;
  readonly connectTimeoutMs?: number;
}

/** Rejects with BUS_UNREACHABLE. */
export function connectBus(setting: BusSetting): Promise<Bus> {
  const { url, log, ...rest } = setting;
  return connectNats({
    ...busAccess(url),
    ...rest,
    onError: (error, subject) =>
      log?.warn({ subject, error: errorText(error) }, 'bus handler failed'),
  });
}
