// npm's oidc-provider with the device flow: launch.mjs FOLDER PORT CLIENT_ID SECONDS. ID tokens
// live for SECONDS. POST /approve?user_code=CODE&sub=NAME stands for a person with a browser, and
// POST /deny?user_code=CODE for one who refuses.
import { pathToFileURL } from 'node:url';

const [folder, port, client, seconds] = process.argv.slice(2);
const entry = pathToFileURL(`${folder}/node_modules/oidc-provider/lib/index.js`);
const { default: Provider } = await import(entry);

const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: client,
    token_endpoint_auth_method: 'none',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    redirect_uris: [],
    response_types: [],
  }],
  features: {
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    revocation: { enabled: true },
  },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  ttl: { IdToken: Number(seconds), DeviceCode: 60, RefreshToken: 600, Grant: 600, AccessToken: 60 },
});

provider.use(async (context, next) => {
  const { pathname, searchParams } = new URL(context.request.href);
  if (context.method !== 'POST' || !['/approve', '/deny'].includes(pathname)) return next();
  const userCode = searchParams.get('user_code').replaceAll('-', '');
  const code = await provider.DeviceCode.findByUserCode(userCode);
  if (pathname === '/deny') {
    Object.assign(code, { error: 'access_denied', errorDescription: 'refused' });
  } else {
    const accountId = searchParams.get('sub');
    const grant = new provider.Grant({ accountId, clientId: client });
    grant.addOIDCScope('openid offline_access');
    Object.assign(code, {
      accountId,
      grantId: await grant.save(),
      scope: 'openid offline_access',
      claims: {},
      authTime: Math.floor(Date.now() / 1000),
    });
  }
  await code.save();
  context.status = 204;
});

provider.listen(Number(port), '127.0.0.1');
