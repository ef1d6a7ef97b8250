import { chapAlgorithms } from '#iscsi/chap-digest.ts';
import type { Network } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

/** Enough for all answers of a login. */
const KEPT_BYTES = 16 * 1024;

/** The real network, which remembers what each connection received first: what the target said in the login. */
export class LoginSpy implements Network {
  #received: Buffer[] = [];
  readonly listen = nodeNetwork.listen;

  readonly connect: Network['connect'] = (address, sink, options) => {
    let kept = 0;
    const spy = {
      buffer: () => sink.buffer(),
      data: (chunk: Buffer, length: number) => {
        if (kept < KEPT_BYTES) this.#received.push(Buffer.from(chunk.subarray(0, length)));
        kept += length;
        sink.data(chunk, length);
      },
      closed: (error: Error | null) => sink.closed(error),
    };
    return nodeNetwork.connect(address, spy, options);
  };

  /** Values that the target gave to a key since the last `reset`, in the order of arrival. */
  answers(key: string): string[] {
    const text = Buffer.concat(this.#received).toString('latin1');
    const pattern = new RegExp(`(?:^|[^A-Za-z_])${key}=([^\\0]*)\\0`, 'g');
    return [...text.matchAll(pattern)].map((match) => match[1]!);
  }

  reset(): void {
    this.#received = [];
  }
}

/** How CHAP_A says it. */
export function algorithmNumber(name: keyof typeof chapAlgorithms): string {
  return String(chapAlgorithms[name].number);
}
