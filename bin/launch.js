'use strict';
// Old versions of Node must be able to parse this file: it finds one that can run the program.
var childProcess = require('child_process');
var fs = require('fs');
var path = require('path');

var MAJOR_MIN = 24;
var ROOT = path.dirname(__dirname);
var MAIN = path.join(ROOT, 'services', 'cli', 'main.ts');
var PINNED = path.join(ROOT, 'node_modules', 'node', 'bin', 'node');

// Compiled code is kept between starts, beside the packages it comes from; where that cannot be written it is not.
var CACHE = path.join(ROOT, 'node_modules', '.cache', 'orion-iscsi');

/** Runs orion-iscsi with `words` before the arguments of this process. */
module.exports = function launch(words) {
  var args = words.concat(process.argv.slice(2));
  if (process.env.NODE_COMPILE_CACHE === undefined) process.env.NODE_COMPILE_CACHE = CACHE;
  if (isGood()) return require('./launch-here.js')(MAIN, args);
  if (!fs.existsSync(PINNED)) {
    process.stderr.write(
      'orion-iscsi: this Node is ' +
        process.version +
        ', ' +
        MAJOR_MIN +
        ' or newer is needed. Install it, or run "npm ci" in ' +
        ROOT +
        ', which brings one.\n',
    );
    process.exit(1);
  }
  restart(args);
};

/** New enough, and able to run TypeScript as it is. */
function isGood() {
  var features = process.features || {};
  return parseInt(process.versions.node, 10) >= MAJOR_MIN && Boolean(features.typescript);
}

function restart(args) {
  // The channel carries nothing: that it closes tells the program that this process is gone, even by SIGKILL.
  var child = childProcess.spawn(PINNED, [MAIN].concat(args), {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'].forEach((signal) => {
    process.on(signal, () => {
      child.kill(signal);
    });
  });
  child.on('error', (error) => {
    process.stderr.write('orion-iscsi: cannot start ' + PINNED + ': ' + error.message + '\n');
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    // Ends as the program did, so that the shell sees the signal.
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
