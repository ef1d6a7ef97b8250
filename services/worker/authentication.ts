import type { OrionConfig, TargetAuthConfig } from '#config/schema.ts';
import type { ChapIdentity, ChapOptions } from '#iscsi/chap.ts';
import { IssuedChallenges } from '#iscsi/chap-challenges.ts';
import { readSecret } from '#security/secret-source.ts';

/** How to log in to a target; undefined where the configuration asks for no authentication. */
export type Authentication = (target: string) => Promise<ChapOptions | undefined>;

type Env = Readonly<Record<string, string | undefined>>;

/** Secrets are read at each login, so that a new one counts from the next login on, and none is kept. */
export function authenticationOf(config: OrionConfig, env: Env): Authentication {
  const challenges = new IssuedChallenges();
  const auths = new Map(config.targets.map(({ name, auth }) => [name, auth]));
  return async (target) => {
    const auth = auths.get(target);
    if (auth === undefined || auth.user === '') return undefined;
    const { algorithms, allow_weak_secrets: allowWeakSecrets } = auth;
    const own = await identity(auth, '', env);
    const options = { ...own, algorithms, allowWeakSecrets, challenges };
    if (auth.mutual_user === '') return options;
    return { ...options, mutual: await identity(auth, 'mutual_', env) };
  };
}

async function identity(
  auth: TargetAuthConfig,
  prefix: '' | 'mutual_',
  env: Env,
): Promise<ChapIdentity> {
  const path = auth[`${prefix}secret_file`];
  const name = auth[`${prefix}secret_env`];
  const source = path === '' ? ({ kind: 'env', name } as const) : ({ kind: 'file', path } as const);
  return { user: auth[`${prefix}user`], secret: await readSecret(source, env) };
}
