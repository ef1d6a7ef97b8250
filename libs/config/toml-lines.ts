/**
 * Which line a key of a TOML text stands on. The parser tells lines for syntax errors only, but a problem with a
 * value needs one too. Runs on texts that have been parsed without error, so it may be simple: it never rejects.
 */
export function tomlLines(text: string): Map<string, number> {
  return new LineScanner(text).scan();
}

class LineScanner {
  readonly #text: string;
  readonly #lines = new Map<string, number>();
  /** Entries so far of each array of tables. */
  readonly #counts = new Map<string, number>();
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  scan(): Map<string, number> {
    let table: string[] = [];
    for (;;) {
      this.#skipSpace(true);
      const char = this.#peek();
      if (char === '') return this.#lines;
      if (char === '[') table = this.#header();
      else this.#keyValue(table);
    }
  }

  #header(): string[] {
    const line = this.#line;
    const isArray = this.#text.startsWith('[[', this.#at);
    this.#at += isArray ? 2 : 1;
    const path = this.#resolve(this.#key());
    this.#skipSpace(false);
    this.#at += isArray ? 2 : 1;
    if (isArray) {
      const name = path.join('.');
      const index = this.#counts.get(name) ?? 0;
      this.#counts.set(name, index + 1);
      this.#note(path, line);
      path.push(String(index));
    }
    this.#note(path, line);
    return path;
  }

  /** Header paths that lead through an array of tables mean its last entry. */
  #resolve(keys: readonly string[]): string[] {
    const path: string[] = [];
    for (const [at, key] of keys.entries()) {
      path.push(key);
      const count = this.#counts.get(path.join('.'));
      if (count !== undefined && at < keys.length - 1) path.push(String(count - 1));
    }
    return path;
  }

  #keyValue(table: readonly string[]): void {
    const line = this.#line;
    const path = [...table, ...this.#key()];
    this.#note(path, line);
    this.#skipSpace(false);
    this.#at += 1; // "="
    this.#skipSpace(false);
    this.#value(path);
  }

  #key(): string[] {
    const parts: string[] = [];
    for (;;) {
      this.#skipSpace(false);
      parts.push(this.#keyPart());
      this.#skipSpace(false);
      if (this.#peek() !== '.') return parts;
      this.#at += 1;
    }
  }

  #keyPart(): string {
    const char = this.#peek();
    if (char === '"' || char === "'") {
      const start = this.#at + 1;
      this.#string();
      const raw = this.#text.slice(start, this.#at - 1);
      return char === '"' ? unescaped(raw) : raw;
    }
    const start = this.#at;
    while (/[A-Za-z0-9_-]/.test(this.#peek())) this.#at += 1;
    if (this.#at === start) this.#at += 1; // never stand still
    return this.#text.slice(start, this.#at);
  }

  #value(path: readonly string[]): void {
    const char = this.#peek();
    if (char === '"' || char === "'") this.#string();
    else if (char === '[') this.#array(path);
    else if (char === '{') this.#inlineTable(path);
    else while (!/[,\]}#\n]/.test(this.#peek()) && this.#peek() !== '') this.#at += 1;
  }

  #array(path: readonly string[]): void {
    this.#at += 1;
    for (let index = 0; ; index++) {
      this.#skipSpace(true);
      if (this.#peek() === ']' || this.#peek() === '') break;
      const item = [...path, String(index)];
      this.#note(item, this.#line);
      this.#value(item);
      this.#skipSpace(true);
      if (this.#peek() === ',') this.#at += 1;
    }
    this.#at += 1;
  }

  #inlineTable(path: readonly string[]): void {
    this.#at += 1;
    for (;;) {
      this.#skipSpace(true);
      if (this.#peek() === '}' || this.#peek() === '') break;
      this.#keyValue(path);
      this.#skipSpace(true);
      if (this.#peek() === ',') this.#at += 1;
    }
    this.#at += 1;
  }

  #string(): void {
    const quoteChar = this.#peek();
    const triple = quoteChar.repeat(3);
    const isLong = this.#text.startsWith(triple, this.#at);
    const end = isLong ? triple : quoteChar;
    this.#at += end.length;
    while (this.#at < this.#text.length && !this.#text.startsWith(end, this.#at)) {
      if (quoteChar === '"' && this.#peek() === '\\') this.#at += 1;
      if (this.#peek() === '\n') this.#line += 1;
      this.#at += 1;
    }
    this.#at += end.length;
    // A long string may end in up to two more quotes of its own.
    while (isLong && this.#peek() === quoteChar) this.#at += 1;
  }

  #skipSpace(overLines: boolean): void {
    for (;;) {
      const char = this.#peek();
      if (char === ' ' || char === '\t' || char === '\r' || char === '\ufeff') this.#at += 1;
      else if (overLines && char === '\n') {
        this.#line += 1;
        this.#at += 1;
      } else if (overLines && char === '#') {
        while (this.#peek() !== '\n' && this.#peek() !== '') this.#at += 1;
      } else return;
    }
  }

  #peek(): string {
    return this.#text.charAt(this.#at);
  }

  #note(path: readonly string[], line: number): void {
    const key = path.join('.');
    if (!this.#lines.has(key)) this.#lines.set(key, line);
  }
}

function unescaped(raw: string): string {
  try {
    return JSON.parse(`"${raw}"`) as string;
  } catch {
    return raw; // an escape that JSON does not know: the line is found by nobody, the value is unaffected
  }
}
