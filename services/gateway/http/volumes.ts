import type { BlockDevice } from '#block/device.ts';
import type { PathStatus, VolumeStatus } from '#contracts/messages.ts';

/** What else is known of a volume besides its device. */
export interface VolumeInfo extends Partial<VolumeStatus> {
  readonly paths?: readonly PathStatus[];
}

/** One volume as the HTTP door serves it. */
export interface VolumeHandle {
  readonly name: string;
  readonly description: string;
  readonly device: BlockDevice;
  readonly state: string;
  info(): VolumeInfo;
}

export interface VolumeDirectory {
  list(): readonly VolumeHandle[];
  get(name: string): VolumeHandle | undefined;
  /** It is configured and will be served, here or by another gateway, but is not yet. */
  isStarting(name: string): boolean;
}

export interface ReadinessCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail?: string;
}

export interface Readiness {
  readonly ready: boolean;
  readonly checks: readonly ReadinessCheck[];
}
