import { isOrionError } from '#core/errors.ts';
import { printable } from '#core/printable.ts';
import { formatBytes } from '#core/units.ts';
import { formatValue } from '#iscsi/keys.ts';
import { loginStatus } from '#iscsi/login-status.ts';
import type { KeyDecided, LoginEvent } from '#iscsi/login-trace.ts';
import type { LunReport } from './lun-report.ts';
import { table } from './output.ts';

/** What became of the login at one portal. */
export interface PortalStory {
  readonly portal: string;
  readonly ok: boolean;
  readonly steps: readonly LoginEvent[];
  readonly session: SessionFacts | null;
  readonly luns: readonly LunReport[];
  readonly error: StoryError | null;
}

export interface SessionFacts {
  readonly portal: string;
  readonly tsih: number;
  readonly tpgt: number;
  readonly alias: string;
  readonly headerDigest: string;
  readonly dataDigest: string;
  readonly authentication: string;
  readonly sendsBytes: number;
  readonly takesBytes: number;
}

export interface StoryError {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  /** "security", "operational": how far the login had come; empty where there was no connection. */
  readonly stage: string;
  /** Class and detail in hex and by name; empty where the target sent none. */
  readonly status: string;
}

const STAGES: Readonly<Record<number, string>> = {
  0: 'security',
  1: 'operational',
  3: 'full feature',
};

export function storyError(error: unknown, steps: readonly LoginEvent[]): StoryError {
  const last = steps.findLast((step) => step.kind === 'sent' || step.kind === 'received');
  const known = isOrionError(error);
  const refusal = steps.findLast((step) => step.kind === 'received');
  return {
    code: known ? error.code : '',
    message: error instanceof Error ? error.message : String(error),
    hint: known ? error.hint : '',
    stage: last === undefined ? '' : stageName(last.stage),
    status: refusal === undefined || refusal.status === 0 ? '' : statusText(refusal.status),
  };
}

function statusText(status: number): string {
  const code = status.toString(16).padStart(4, '0');
  return `${code} ${loginStatus(status >> 8, status & 0xff).name}`;
}

function stageName(stage: number): string {
  return STAGES[stage] ?? String(stage);
}

/** The story for people. */
export function storyText(story: PortalStory): string {
  const lines = [`portal ${story.portal}`, ...story.steps.flatMap(stepLines)];
  const keys = story.steps.filter((step) => step.kind === 'key');
  if (keys.length > 0) lines.push('', ...indented(keysTable(keys)));
  if (story.session !== null) lines.push('', ...sessionLines(story.session));
  if (story.luns.length > 0) lines.push('', ...indented(lunsTable(story.luns)));
  lines.push('', ...endLines(story));
  return lines.map(printable).join('\n');
}

function stepLines(step: LoginEvent): string[] {
  switch (step.kind) {
    case 'connecting':
      return [line('connect', step.portal)];
    case 'connected':
      return [line('', 'is connected')];
    case 'sent': {
      const asks =
        step.nextStage === null ? '' : `  (asks for the ${stageName(step.nextStage)} stage)`;
      return [line(stageName(step.stage), `-> ${pairsText(step.pairs)}${asks}`)];
    }
    case 'received': {
      const goes =
        step.nextStage === null ? '' : `  (goes to the ${stageName(step.nextStage)} stage)`;
      const status = step.status === 0 ? '' : `status ${statusText(step.status)}  `;
      return [line(stageName(step.stage), `<- ${status}${pairsText(step.pairs)}${goes}`)];
    }
    case 'redirected': {
      const how = step.isPermanent ? 'for good' : 'for now';
      return [line('redirected', `${how} to ${step.addresses.join(', ')}`)];
    }
    case 'authenticated':
      return [line('identity', step.how)];
    case 'retried':
      return [line('once more', step.why)];
    case 'key':
      return [];
  }
}

const LABEL_CHARS = 12;

/** More in one line are hard to read, and stand in the table of keys. */
const SHOWN_KEYS_MAX = 6;

function line(label: string, text: string): string {
  return `  ${label.padEnd(LABEL_CHARS)} ${text}`;
}

function pairsText(pairs: readonly (readonly [string, string])[]): string {
  if (pairs.length === 0) return 'no keys';
  if (pairs.length > SHOWN_KEYS_MAX) return `${pairs.length} keys, see the table`;
  return pairs.map(([key, value]) => `${key}=${value}`).join(' ');
}

function keysTable(keys: readonly KeyDecided[]): string {
  return table(
    ['KEY', 'WE OFFERED', 'TARGET SAID', 'IN FORCE', 'WHY', 'RFC 7143'],
    keys.map(({ name, offered, answered, outcome, why, section }) => [
      name,
      offered ?? '',
      answered ?? '',
      formatValue(outcome),
      why,
      `§${section}`,
    ]),
  );
}

function sessionLines(session: SessionFacts): string[] {
  const alias = session.alias === '' ? '' : `, called ${JSON.stringify(session.alias)}`;
  return [
    line('session', `TSIH ${session.tsih}, portal group ${session.tpgt}${alias}`),
    line('digests', `header ${session.headerDigest}, data ${session.dataDigest}`),
    line(
      'segments',
      `we send at most ${formatBytes(session.sendsBytes)}, and take at most ${formatBytes(session.takesBytes)}`,
    ),
  ];
}

function lunsTable(luns: readonly LunReport[]): string {
  return table(
    ['LUN', 'KIND', 'PRODUCT', 'SIZE', 'BLOCK', 'STATE'],
    luns.map(({ lun, kind, product, sizeBytes, blockBytes, state }) => [
      lun,
      kind,
      product,
      sizeBytes === null ? '' : formatBytes(sizeBytes),
      blockBytes === null ? '' : String(blockBytes),
      state,
    ]),
  );
}

function endLines({ ok, error, luns }: PortalStory): string[] {
  if (ok) return [line('ok', `logged in, ${luns.length} logical units, logged out`)];
  const { code, message, hint, stage, status } = error!;
  const lines = [line('FAILED', message)];
  if (stage !== '') lines.push(line('', `in the ${stage} stage`));
  if (status !== '') lines.push(line('', `status ${status} (RFC 7143 §11.13.5)`));
  if (code !== '') lines.push(line('', code));
  if (hint !== '') lines.push(line('what to do', hint));
  return lines;
}

function indented(text: string): string[] {
  return text.split('\n').map((row) => `  ${row}`);
}
