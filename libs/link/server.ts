import type { Address, Listener } from '../wire/network.ts';
import { LinkConnection, type LinkConnectionOptions } from './connection.ts';

export interface LinkServer {
  readonly address: Address;
  close(): Promise<void>;
}

/** The worker's end of the links: any number of gateways. */
export async function listenLink(options: LinkConnectionOptions): Promise<LinkServer> {
  const connections = new Set<LinkConnection>();
  const listener: Listener = await options.network.listen(options.address, (stream) => {
    const connection = new LinkConnection(stream, options, () => connections.delete(connection));
    connections.add(connection);
    return connection;
  });
  return {
    address: listener.address,
    async close() {
      for (const connection of connections) connection.destroy();
      await listener.close();
    },
  };
}
