import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type RangeHolder, RangeLock } from './range-lock.ts';

interface Holder extends RangeHolder {
  readonly id: number;
  held: boolean;
}

test('overlapping changes are never held together, and are admitted in the order they came', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ offset: fc.nat(30), length: fc.integer({ min: 1, max: 8 }) }),
      fc.record({ release: fc.nat(100) }),
    ),
    { maxLength: 120 },
  );
  fc.assert(
    fc.property(steps, (script) => {
      const lock = new RangeLock<Holder>();
      const all: Holder[] = [];
      const overlap = (a: Holder, b: Holder): boolean => a.offset < b.end && b.offset < a.end;
      const open: Holder[] = [];
      const check = (): void => {
        const held = open.filter((holder) => holder.held);
        for (const one of held) {
          for (const two of held) if (one !== two) expect(overlap(one, two)).toBe(false);
          // Nobody older that overlaps is still waiting.
          const older = open.filter((other) => other.id < one.id && !other.held);
          expect(older.some((other) => overlap(other, one))).toBe(false);
        }
        expect(lock.heldCount).toBe(held.length);
        expect(lock.waitingCount).toBe(open.length - held.length);
      };
      for (const step of script) {
        if ('offset' in step) {
          const holder: Holder = {
            id: all.length,
            offset: step.offset,
            end: step.offset + step.length,
            lockIndex: -1,
            giveUpMs: Number.POSITIVE_INFINITY,
            held: false,
            admitted() {
              this.held = true;
            },
          };
          all.push(holder);
          open.push(holder);
          if (lock.acquire(holder)) holder.held = true;
        } else {
          const held = open.filter((holder) => holder.held);
          if (held.length === 0) continue;
          const holder = held[step.release % held.length]!;
          open.splice(open.indexOf(holder), 1);
          lock.release(holder);
        }
        check();
      }
      // Everybody's turn comes.
      while (open.length > 0) {
        const holder = open.find((candidate) => candidate.held)!;
        open.splice(open.indexOf(holder), 1);
        lock.release(holder);
        check();
      }
    }),
  );
});
