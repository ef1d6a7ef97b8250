import { connect, type Socket } from 'node:net';

/** Runs shell scripts in the virtual machine, over its second serial port (lio-init.sh is the other end). */
export interface LioControl {
  /** Resolves with what the script printed; rejects, with that, when it fails. One after the other. */
  run(script: string, timeoutMs?: number): Promise<string>;
  close(): void;
}

const RUN_MS_MAX = 60_000;

/** The serial port has no flow control: this much fits into the buffers of the other side. */
const SCRIPT_BYTES_MAX = 32 * 1024;

export async function openControl(path: string): Promise<LioControl> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return new Control(socket);
}

class Control implements LioControl {
  readonly #socket: Socket;
  #output = '';
  #lastId = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #check: () => void = () => {};
  #lost: Error | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      this.#output += text;
      this.#check();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#lost = new Error('the virtual machine has ended');
      this.#check();
    });
  }

  run(script: string, timeoutMs = RUN_MS_MAX): Promise<string> {
    const bytes = Buffer.byteLength(script);
    if (bytes > SCRIPT_BYTES_MAX) throw new Error(`a script of ${bytes} bytes is too long`);
    const turn = this.#tail.then(() => this.#runNow(script, timeoutMs));
    this.#tail = turn.catch(() => {});
    return turn;
  }

  async #runNow(script: string, timeoutMs: number): Promise<string> {
    const id = ++this.#lastId;
    const end = new RegExp(`([^]*?)\\n#done ${id} (\\d+)\\n`);
    this.#output = '';
    const match = await new Promise<RegExpExecArray>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no answer in ${timeoutMs} ms to: ${script}`)),
        timeoutMs,
      );
      const settle = (how: () => void): void => {
        clearTimeout(timer);
        this.#check = () => {};
        how();
      };
      this.#check = () => {
        const found = end.exec(this.#output);
        if (found !== null) settle(() => resolve(found));
        else if (this.#lost !== null) settle(() => reject(this.#lost));
      };
      this.#socket.write(`${script}\n#end ${id}\n`);
      this.#check();
    });
    const [, output, status] = match;
    if (status !== '0') throw new Error(`exit status ${status} of:\n${script}\n${output}`);
    return output!;
  }

  close(): void {
    this.#socket.destroy();
  }
}
