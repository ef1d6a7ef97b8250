'use strict';
// In a file of its own, because versions of Node that have no import() cannot even parse it.
var nodeModule = require('module');
var url = require('url');

module.exports = function launchHere(main, args) {
  nodeModule.enableCompileCache(process.env.NODE_COMPILE_CACHE);
  process.argv = [process.argv[0], main].concat(args);
  import(url.pathToFileURL(main).href).catch((error) => {
    console.error(error);
    process.exit(1);
  });
};
