import Table from 'cli-table3';
import { printable } from '#core/printable.ts';

/** What a command writes: results to stdout, one line to stderr when it fails. */
export interface Output {
  readonly json: boolean;
  line(text: string): void;
  error(text: string): void;
}

/** Where text goes; tests have their own. */
export interface Streams {
  out(text: string): void;
  err(text: string): void;
}

export const standardStreams: Streams = {
  out: (text) => {
    process.stdout.write(text);
  },
  err: (text) => {
    process.stderr.write(text);
  },
};

export function outputTo(streams: Streams, json: boolean): Output {
  return {
    json,
    line: (text) => streams.out(`${text}\n`),
    // A target may have had a hand in it. The problems of a configuration are lines of their own.
    error: (text) => streams.err(`orion-iscsi: ${text.split('\n').map(printable).join('\n')}\n`),
  };
}

/** A reader that has gone away ("| head") is no error. */
export function tolerateClosedOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

/** "ready nbd://..." once for each address. */
export class ReadyLines {
  readonly #output: Output;
  readonly #shown = new Set<string>();

  constructor(output: Output) {
    this.#output = output;
  }

  show(uris: readonly string[]): void {
    for (const uri of uris) {
      if (this.#shown.has(uri)) continue;
      this.#shown.add(uri);
      this.#output.line(this.#output.json ? JSON.stringify({ ready: uri }) : `ready ${uri}`);
    }
  }
}

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

type Cell = string | number;

/** A table for people: aligned columns, no frame, so that it can be copied and cut. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const isNumber = head.map((_, at) => rows.length > 0 && rows.every((row) => isNumeric(row[at])));
  const made = new Table({
    head: [...head],
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: isNumber.map((numeric) => (numeric ? 'right' : 'left')),
  });
  for (const row of rows) made.push(row.map((cell) => printable(String(cell))));
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function isNumeric(cell: Cell | undefined): boolean {
  return typeof cell === 'number';
}

/** 93784000 to "1d 2h". */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${seconds % 60}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${minutes % 60}m`;
  return `${Math.floor(hours / 24)}d ${hours % 24}h`;
}
