/** How well a logical unit can be used over one path: its target port group's access state (ALUA, SPC-4 §5.11). */
export const AccessState = {
  /** The device does not tell: all its ports are alike. */
  Any: 'any',
  Optimized: 'active/optimized',
  NonOptimized: 'active/non-optimized',
  LbaDependent: 'lba-dependent',
  Standby: 'standby',
  Unavailable: 'unavailable',
  Offline: 'offline',
  Transitioning: 'transitioning',
} as const;
export type AccessState = (typeof AccessState)[keyof typeof AccessState];

export interface PathAccess {
  readonly state: AccessState;
  /** The device would rather be used through this group. */
  readonly preferred: boolean;
  /** Target port group; null when the device tells none. */
  readonly group: number | null;
}

export const ANY_ACCESS: PathAccess = { state: AccessState.Any, preferred: false, group: null };

const NEVER = 0;

/** I/O goes to the paths of the highest rank; never to those of rank 0. */
const RANKS: Readonly<Record<AccessState, number>> = {
  [AccessState.Any]: 50,
  [AccessState.Optimized]: 50,
  [AccessState.NonOptimized]: 10,
  [AccessState.LbaDependent]: 5,
  [AccessState.Standby]: NEVER,
  [AccessState.Unavailable]: NEVER,
  [AccessState.Offline]: NEVER,
  [AccessState.Transitioning]: NEVER,
};

/** Preference decides among ways that are not optimized, and never puts one of them before one that is. */
export function accessRank(access: PathAccess): number {
  const rank = RANKS[access.state];
  const optimized = RANKS[AccessState.Optimized];
  return rank === NEVER || rank === optimized || !access.preferred ? rank : rank + 1;
}

const STATES: ReadonlySet<string> = new Set(Object.values(AccessState));

/** What came from another process; null when it is none. */
export function asPathAccess(value: unknown): PathAccess | null {
  if (typeof value !== 'object' || value === null) return null;
  const { state, preferred, group } = value as Record<string, unknown>;
  if (typeof state !== 'string' || !STATES.has(state)) return null;
  if (group !== null && !Number.isInteger(group)) return null;
  return {
    state: state as AccessState,
    preferred: preferred === true,
    group: group as number | null,
  };
}
