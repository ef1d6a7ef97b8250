/**
 * Where things should be: weighted rendezvous hashing with bounded load (failover.md §2). Everybody computes the same
 * from the same input, a member that comes or goes moves about its share alone, and the bound keeps hot spots
 * away. The computed place is a wish, never authority: that is the record in the store.
 */

/** How much more than its fair share a member may carry. */
export const LOAD_SLACK = 0.25;

/** A worker on the node of the volume's owner saves a network hop. */
export const LOCALITY_BONUS = 2;

/** A gateway or a worker that is ready to take something. Leave out those that are suspect or drain. */
export interface Place {
  readonly id: string;
  readonly node: string;
  /** Capacity relative to others; 1 when left out, none at 0. */
  readonly weight?: number;
}

/** Things already placed, by the id of the place. */
export type Loads = ReadonlyMap<string, number>;

export interface SlotToPlace {
  readonly slot: number;
  readonly portal: string;
  /** Where it is; it stays there if that worker is among the places. Empty: nowhere. */
  readonly worker: string;
}

export interface SlotPlacement {
  readonly volume: string;
  readonly slots: readonly SlotToPlace[];
  readonly workers: readonly Place[];
  /** Node of the gateway that owns the volume. */
  readonly ownerNode?: string;
  /** Slots of other volumes. */
  readonly loads?: Loads;
}

/** The gateway that should own the volume; null when there is none. */
export function placeVolume(
  volume: string,
  gateways: readonly Place[],
  loads: Loads = new Map(),
): string | null {
  const ranked = rank(volume, gateways);
  const fits = boundedBy(gateways, loads, 1);
  return (ranked.find((place) => fits(place)) ?? ranked[0])?.id ?? null;
}

/** A worker for every slot of a volume, by slot number; null where there is none. */
export function placeSlots(placement: SlotPlacement): Map<number, string | null> {
  const known = new Set(placement.workers.map((worker) => worker.id));
  const slots = placement.slots
    .map((slot) => (known.has(slot.worker) ? slot : { ...slot, worker: '' }))
    .sort((a, b) => a.slot - b.slot);
  for (const [i, slot] of slots.entries()) {
    if (slot.worker !== '') continue;
    const [best] = rankWorkers({ ...placement, slots }, slot.slot);
    slots[i] = { ...slot, worker: best ?? '' };
  }
  return new Map(slots.map(({ slot, worker }) => [slot, worker === '' ? null : worker]));
}

/**
 * All workers for one slot, best first, given where the volume's other slots are: first those that keep the volume
 * on two workers and two nodes, then an even spread, then the bound on load, then the hash.
 */
export function rankWorkers(placement: SlotPlacement, slotNumber: number): string[] {
  const { volume, workers, slots, ownerNode, loads = new Map() } = placement;
  const slot = slots.find((one) => one.slot === slotNumber);
  if (slot === undefined) return [];
  const placed = slots.filter((one) => one.slot !== slotNumber && one.worker !== '');
  const ranked = rank(`${volume}/${slotNumber}`, workers, (worker) =>
    worker.node === ownerNode ? LOCALITY_BONUS : 1,
  );
  const faults = faultsOf(slot, placed, slots.length, ranked, loads);
  const scored = ranked.map((worker) => ({ id: worker.id, faults: faults(worker) }));
  // The sort is stable: equal faults stay in the order of the hash.
  return scored.sort((a, b) => a.faults - b.faults).map((one) => one.id);
}

/** What speaks against a worker for this slot, the gravest in the highest place. */
function faultsOf(
  slot: SlotToPlace,
  placed: readonly SlotToPlace[],
  slotCount: number,
  workers: readonly Place[],
  loads: Loads,
): (worker: Place) => number {
  const nodeOf = new Map(workers.map((worker) => [worker.id, worker.node]));
  const usedWorkers = new Set(placed.map((one) => one.worker));
  const usedNodes = new Set(placed.map((one) => nodeOf.get(one.worker)));
  const fairShare = Math.ceil(slotCount / Math.max(1, workers.length));
  const allLoads = new Map(loads);
  for (const { worker } of placed) allLoads.set(worker, (allLoads.get(worker) ?? 0) + 1);
  const unplaced = slotCount - placed.length;
  const fits = boundedBy(workers, allLoads, unplaced);
  return (worker) => {
    const here = placed.filter((one) => one.worker === worker.id);
    const flags = [
      usedWorkers.size === 1 && usedWorkers.has(worker.id),
      usedNodes.size === 1 && usedNodes.has(worker.node),
      here.length >= fairShare,
      here.some((one) => one.portal === slot.portal),
      !fits(worker),
    ];
    return flags.reduce((sum, flag) => sum * 2 + (flag ? 1 : 0), 0);
  };
}

/** Whether a place can take one more, when `adding` more are to be placed over all. */
function boundedBy(
  places: readonly Place[],
  loads: Loads,
  adding: number,
): (place: Place) => boolean {
  const usable = places.filter((place) => weightOf(place) > 0);
  const weights = usable.reduce((sum, place) => sum + weightOf(place), 0);
  const total = usable.reduce((sum, place) => sum + (loads.get(place.id) ?? 0), adding);
  return (place) => {
    const bound = Math.ceil(((1 + LOAD_SLACK) * total * weightOf(place)) / weights);
    return (loads.get(place.id) ?? 0) + 1 <= bound;
  };
}

/** Places by descending score for the key; the first is the preferred one, the next ones stand by. */
export function rank(
  key: string,
  places: readonly Place[],
  bonus: (place: Place) => number = () => 1,
): Place[] {
  return places
    .filter((place) => weightOf(place) > 0)
    .map((place) => {
      const u = unitOf(hash64(`${place.id}\0${key}`));
      return { place, score: (weightOf(place) * bonus(place)) / -Math.log(u) };
    })
    .sort((a, b) => b.score - a.score || (a.place.id < b.place.id ? -1 : 1))
    .map((one) => one.place);
}

function weightOf(place: Place): number {
  return place.weight ?? 1;
}

/** In (0, 1], from the upper 53 bits. */
function unitOf(hash: bigint): number {
  return Number((hash >> 11n) + 1n) / 2 ** 53;
}

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

/** FNV-1a over the UTF-8 bytes, then a mix of all bits (FNV alone leaves the upper ones too regular). */
export function hash64(text: string): bigint {
  let hash = FNV_OFFSET;
  for (const byte of Buffer.from(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME);
  }
  hash ^= hash >> 33n;
  hash = BigInt.asUintN(64, hash * 0xff51afd7ed558ccdn);
  hash ^= hash >> 33n;
  hash = BigInt.asUintN(64, hash * 0xc4ceb9fe1a85ec53n);
  return hash ^ (hash >> 33n);
}
