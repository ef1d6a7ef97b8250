import { describe, expect, test } from 'vitest';
import { Receiver } from './receiver.ts';

/** A receiver of segments of `length` bytes that pauses after every `pauseAfter` of them. */
function pausing(length: number, pauseAfter: number) {
  const got: string[] = [];
  const receiver: Receiver = new Receiver((buffer, at) => {
    got.push(buffer.toString('latin1', at, at + length));
    receiver.want(length);
    if (got.length % pauseAfter === 0) receiver.pause();
  });
  receiver.want(length);
  return { receiver, got };
}

function push(receiver: Receiver, text: string): void {
  const chunk = Buffer.from(text, 'latin1');
  receiver.push(chunk, chunk.length);
  // The chunk is the receiver's during the call only.
  chunk.fill(0x21);
}

describe('a receiver that is paused', () => {
  test('delivers nothing more of the chunk at hand, and keeps its rest', () => {
    const { receiver, got } = pausing(2, 1);
    push(receiver, 'aabbccd');
    expect(got).toEqual(['aa']);
    expect(receiver.heldBytes).toBe(5);
    receiver.resume();
    expect(got).toEqual(['aa', 'bb']);
    receiver.resume();
    receiver.resume();
    expect(got).toEqual(['aa', 'bb', 'cc']);
    expect(receiver.heldBytes).toBe(0);
    expect(receiver.partial).toBe(true);
    push(receiver, 'd');
    expect(got).toEqual(['aa', 'bb', 'cc', 'dd']);
    expect(receiver.heldBytes).toBe(0);
  });

  test('keeps what the stream still delivers, in order', () => {
    const { receiver, got } = pausing(3, 2);
    push(receiver, 'aaabbbcc');
    push(receiver, 'cddd');
    push(receiver, 'eeef');
    expect(got).toEqual(['aaa', 'bbb']);
    while (receiver.heldBytes > 0 && got.length < 5) receiver.resume();
    expect(got).toEqual(['aaa', 'bbb', 'ccc', 'ddd', 'eee']);
    receiver.resume();
    push(receiver, 'ff');
    expect(got.at(-1)).toBe('fff');
  });

  test('delivers the same segments whatever the chunks and the pauses', () => {
    const text = Array.from({ length: 40 }, (_, i) => String.fromCharCode(48 + i)).join('');
    for (let length = 1; length <= 7; length++) {
      for (let chunk = 1; chunk <= 11; chunk++) {
        for (let pauseAfter = 1; pauseAfter <= 4; pauseAfter++) {
          const { receiver, got } = pausing(length, pauseAfter);
          for (let at = 0; at < text.length; at += chunk) {
            push(receiver, text.slice(at, at + chunk));
            if (at % 3 === 0) receiver.resume();
          }
          for (let i = 0; i < 40; i++) receiver.resume();
          expect(got.join('')).toBe(text.slice(0, text.length - (text.length % length)));
        }
      }
    }
  });

  test('resumed from within its own delivery just goes on', () => {
    const got: number[] = [];
    const receiver: Receiver = new Receiver((buffer, at) => {
      got.push(buffer[at]!);
      receiver.want(1);
      receiver.pause();
      receiver.resume();
    });
    receiver.want(1);
    push(receiver, 'abc');
    expect(got.length).toBe(3);
  });

  test('receives into scratch, not into a destination, and puts it there on resume', () => {
    const into = Buffer.alloc(32 * 1024);
    let done = 0;
    const receiver: Receiver = new Receiver(() => {
      done += 1;
      if (done === 1) {
        receiver.pause();
        receiver.want(into.length, into);
      } else receiver.want(1);
    });
    receiver.want(1);
    push(receiver, 'x');
    const buffer = receiver.buffer();
    expect(buffer.buffer).not.toBe(into.buffer);
    buffer.fill(0x61, 0, 20_000);
    receiver.push(buffer, 20_000);
    expect(into[0]).toBe(0);
    receiver.resume();
    expect(into.toString('latin1', 0, 20_000)).toBe('a'.repeat(20_000));
    const direct = receiver.buffer();
    expect(direct.buffer).toBe(into.buffer);
    direct.fill(0x62);
    receiver.push(direct, direct.length);
    expect(done).toBe(2);
    expect(into.toString('latin1', 20_000)).toBe('b'.repeat(into.length - 20_000));
  });

  test('forgets what it kept when it is stopped', () => {
    const { receiver, got } = pausing(1, 1);
    push(receiver, 'abc');
    receiver.stop();
    receiver.resume();
    expect(receiver.heldBytes).toBe(0);
    expect(got).toEqual(['a']);
  });
});
