/**
 * A strict reader of the Prometheus text format 0.0.4, for tests: throws at what a scraper might take but a careful
 * producer does not write.
 */

export interface PromSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PromFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: PromSample[];
}

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)/y;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  histogram: ['_bucket', '_sum', '_count'],
};

export function parsePrometheus(text: string): Map<string, PromFamily> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const families = new Map<string, PromFamily>();
  let help: { name: string; text: string } | null = null;
  let family: PromFamily | null = null;
  for (const [index, line] of text.slice(0, -1).split('\n').entries()) {
    const fail = (why: string): never => {
      throw new Error(`line ${index + 1}: ${why}: ${line}`);
    };
    if (line === '') continue;
    if (line.startsWith('# HELP ')) {
      const [, name, rest] = /^# HELP (\S+) (.+)$/.exec(line) ?? fail('malformed HELP');
      help = { name: name!, text: rest! };
    } else if (line.startsWith('# TYPE ')) {
      const [, name, type] =
        /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? fail('malformed TYPE');
      if (help?.name !== name) fail('no HELP before it');
      if (!METRIC_NAME.test(name!)) fail('bad name');
      if (families.has(name!)) fail('a second TYPE for it');
      if (type === 'counter' && !name!.endsWith('_total')) fail('a counter ends in _total');
      family = { name: name!, type: type!, help: help!.text, samples: [] };
      families.set(name!, family);
    } else if (line.startsWith('#')) {
      fail('unknown comment');
    } else {
      if (family === null) fail('a sample before any TYPE');
      family!.samples.push(parseSample(line, family!, fail));
    }
  }
  for (const each of families.values()) checkFamily(each);
  return families;
}

function parseSample(line: string, family: PromFamily, fail: (why: string) => never): PromSample {
  const [, name, labelText = '', valueText] = SAMPLE.exec(line) ?? fail('malformed sample');
  const suffixes = SUFFIXES[family.type] ?? [''];
  if (!suffixes.some((suffix) => name === family.name + suffix)) fail(`not of ${family.name}`);
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < labelText.length) {
    const [, label, value] = LABEL.exec(labelText) ?? fail('malformed labels');
    if (label! in labels) fail('a label twice');
    labels[label!] = value!;
  }
  const value = valueText === '+Inf' ? Number.POSITIVE_INFINITY : Number(valueText);
  if (Number.isNaN(value)) fail('not a number');
  if (family.type !== 'gauge' && value < 0) fail('negative');
  return { name: name!, labels, value };
}

function checkFamily(family: PromFamily): void {
  const keys = family.samples.map(({ name, labels }) => `${name}${seriesKey(labels)}`);
  if (new Set(keys).size !== keys.length) throw new Error(`${family.name}: a series twice`);
  if (family.samples.length === 0) throw new Error(`${family.name}: no samples`);
  if (family.type === 'histogram') checkHistogram(family);
}

function checkHistogram(family: PromFamily): void {
  const counts = new Map<string, number>();
  const buckets = new Map<string, { le: number; value: number }[]>();
  for (const { name, labels, value } of family.samples) {
    const { le, ...rest } = labels;
    const key = seriesKey(rest);
    if (name.endsWith('_count')) counts.set(key, value);
    if (!name.endsWith('_bucket')) continue;
    const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le);
    buckets.set(key, [...(buckets.get(key) ?? []), { le: bound, value }]);
  }
  if (buckets.size !== counts.size) throw new Error(`${family.name}: buckets without a count`);
  for (const [key, list] of buckets) {
    for (let i = 1; i < list.length; i++) {
      if (!(list[i]!.le > list[i - 1]!.le)) throw new Error(`${family.name}: bounds out of order`);
      if (list[i]!.value < list[i - 1]!.value) throw new Error(`${family.name}: not cumulative`);
    }
    const last = list.at(-1)!;
    if (last.le !== Number.POSITIVE_INFINITY) throw new Error(`${family.name}: no +Inf bucket`);
    if (last.value !== counts.get(key)) throw new Error(`${family.name}: +Inf is not the count`);
  }
}

function seriesKey(labels: Readonly<Record<string, string>>): string {
  return JSON.stringify(Object.entries(labels).sort());
}
