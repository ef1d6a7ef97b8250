/** What happens when an actor fails. */
export interface SupervisionPolicy {
  /** `escalate`: its parent fails in its place. */
  readonly onFailure: 'restart' | 'stop' | 'escalate';
  /** This many restarts within `withinMs`; the next failure escalates. */
  readonly restartsMax: number;
  readonly withinMs: number;
  /** Before the first restart; doubles with each further one in the window, up to `backoffMsMax`. */
  readonly backoffMs: number;
  readonly backoffMsMax: number;
}

export const DEFAULT_POLICY: SupervisionPolicy = {
  onFailure: 'restart',
  restartsMax: 5,
  withinMs: 60_000,
  backoffMs: 100,
  backoffMsMax: 5000,
};

export type Verdict =
  | { readonly do: 'restart'; readonly afterMs: number; readonly failures: readonly number[] }
  | { readonly do: 'stop' | 'escalate' };

/** `failures`: times of earlier ones, oldest first. */
export function judgeFailure(
  policy: SupervisionPolicy,
  failures: readonly number[],
  nowMs: number,
): Verdict {
  if (policy.onFailure !== 'restart') return { do: policy.onFailure };
  const recent = failures.filter((atMs) => nowMs - atMs < policy.withinMs);
  if (recent.length >= policy.restartsMax) return { do: 'escalate' };
  const afterMs = Math.min(policy.backoffMs * 2 ** recent.length, policy.backoffMsMax);
  return { do: 'restart', afterMs, failures: [...recent, nowMs] };
}
