'use strict';
// In a file of its own, because versions of Node that have no import() cannot even parse it.
var url = require('url');

module.exports = function launchHere(main, args) {
  process.argv = [process.argv[0], main].concat(args);
  import(url.pathToFileURL(main).href).catch((error) => {
    console.error(error);
    process.exit(1);
  });
};
