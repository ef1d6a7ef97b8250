import { defineErrors } from '../core/errors.ts';

export const wireErrors = defineErrors('wire', {
  TLS_UNTRUSTED: {
    text: 'the certificate of the other side is not signed by anybody that is trusted',
    hint: 'Name the file with the certificate of the signer in tls.ca; with a self-signed certificate that is the certificate itself.',
    outcome: 'not-executed',
  },
  TLS_WRONG_NAME: {
    text: 'the certificate of the other side is for another name',
    hint: 'Check the address; where the certificate is right, put the name that it is for into tls.server_name.',
    outcome: 'not-executed',
  },
  TLS_EXPIRED: {
    text: 'the certificate of the other side is not valid at this time',
    hint: 'Renew it, and check the clocks of both machines.',
    outcome: 'not-executed',
  },
  TLS_NOT_SPOKEN: {
    text: 'the other side does not speak TLS',
    hint: 'Check the port: the TLS front listens on another one than the target behind it.',
    outcome: 'not-executed',
  },
  TLS_VERSION: {
    text: 'both sides have no TLS version in common',
    hint: 'Compare tls.min_version with what the other side allows.',
    outcome: 'not-executed',
  },
  TLS_CLIENT_REFUSED: {
    text: 'the other side does not take our certificate',
    hint: 'Give one that it trusts in tls.cert and tls.key.',
    outcome: 'not-executed',
  },
  TLS_MATERIAL: {
    text: 'a certificate or key cannot be used',
    hint: 'Certificates and keys are PEM files; the key has to belong to the certificate.',
    outcome: 'not-executed',
  },
  TLS_FAILED: {
    text: 'the TLS connection failed',
    hint: 'Look at the log of the TLS front.',
    outcome: 'not-executed',
  },
});
