import { expect, test } from 'vitest';
import { busAccess } from './buses.ts';

test.each([
  ['nats://h:4222', { url: 'nats://h:4222' }],
  ['nats://a:1, nats://b:2', { url: 'nats://a:1,nats://b:2' }],
  ['nats://secret@h:1', { url: 'nats://h:1', token: 'secret' }],
  [
    'nats://me:p%40ss@h:1,nats://h2:2',
    { url: 'nats://h:1,nats://h2:2', user: 'me', password: 'p@ss' },
  ],
  ['tls://h:4222', { url: 'tls://h:4222', tls: {} }],
])('%s tells where the bus is and who we are', (given, access) => {
  expect(busAccess(given)).toEqual(access);
});
