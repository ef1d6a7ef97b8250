import type { OrionConfig, TargetAuthConfig } from '#config/schema.ts';
import type { ChapIdentity, ChapOptions } from '#iscsi/chap.ts';
import { IssuedChallenges } from '#iscsi/chap-challenges.ts';
import { readSecret } from '#security/secret-source.ts';

/** How to log in: undefined where the configuration asks for no authentication. */
export interface Authentication {
  to(target: string): Promise<ChapOptions | undefined>;
  forDiscovery(): Promise<ChapOptions | undefined>;
}

type Env = Readonly<Record<string, string | undefined>>;

/** Secrets are read at each login, so that a new one counts from the next login on, and none is kept. */
export function authenticationOf(config: OrionConfig, env: Env): Authentication {
  const challenges = new IssuedChallenges();
  const auths = new Map(config.targets.map(({ name, auth }) => [name, auth]));
  const { chap_authentication: isOn, target_authentication: isMutual } = config.iscsi;
  const options = async (auth: TargetAuthConfig | undefined): Promise<ChapOptions | undefined> => {
    if (!isOn || auth === undefined || auth.user === '') return undefined;
    const { algorithms, allow_weak_secrets: allowWeakSecrets } = auth;
    const own = await identity(auth, '', env);
    const one = { ...own, algorithms, allowWeakSecrets, challenges };
    if (!isMutual || auth.mutual_user === '') return one;
    return { ...one, mutual: await identity(auth, 'mutual_', env) };
  };
  return {
    to: (target) => options(auths.get(target)),
    forDiscovery: () => options(config.discovery.auth),
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
