import { standardStreams, tolerateClosedOutput } from './output.ts';
import { run } from './program.ts';

tolerateClosedOutput();
// Exits at once: a command that is done does not wait for a timer or a socket that somebody has left.
process.exit(await run(process.argv.slice(2), standardStreams));
