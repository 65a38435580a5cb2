// A certified OpenID provider with a plain login page. Its one argument is a JSON file:
// {port, jwks, cookieKeys, clients, people: {login: {name, groups}}, audience, opaqueAudiences, accessTokenSeconds,
// scopes, acrValues (weakest first), requireDpopNonce, introspectors, documents: {url: client metadata}}.
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { Provider, errors, interactionPolicy } from 'oidc-provider'

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const issuer = `http://127.0.0.1:${config.port}`
const scopes = ['openid', 'profile', 'email', 'groups', 'offline_access', ...config.scopes]
const [ONE_FACTOR, TWO_FACTORS] = config.acrValues

const policy = interactionPolicy.base()
policy.get('login').checks.add(new interactionPolicy.Check('acr', 'a stronger login is needed', ({ oidc }) => {
  const asked = oidc.params.acr_values?.split(' ') ?? []
  const had = oidc.session.acr
  return asked.length > 0 && !asked.includes(had) && had !== TWO_FACTORS && !oidc.result?.login
}))

function describeResource(resource) {
  return {
    audience: resource,
    scope: scopes.join(' '),
    accessTokenTTL: config.accessTokenSeconds,
    ...(config.opaqueAudiences.includes(resource)
      ? { accessTokenFormat: 'opaque' }
      : { accessTokenFormat: 'jwt', jwt: { sign: { alg: config.jwks.keys[0].alg } } }),
  }
}

const mayAskOf = (ctx, client, token) =>
  token.clientId === client.clientId || config.introspectors.includes(client.clientId)

const provider = new Provider(issuer, {
  acrValues: config.acrValues,
  clients: config.clients,
  jwks: config.jwks,
  cookies: { keys: config.cookieKeys },
  scopes,
  claims: {
    openid: ['sub', 'acr', 'auth_time'],
    profile: ['name', 'preferred_username', 'groups'],
    email: ['email', 'email_verified'],
    groups: ['groups'],
  },
  conformIdTokenClaims: false, // the claims of a scope are in the ID token too, as most providers do it
  features: {
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: {
      enabled: true,
      ...(config.requireDpopNonce && { nonceSecret: randomBytes(32), requireNonce: () => true }),
    },
    introspection: { enabled: true, allowedPolicy: mayAskOf },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => config.audience,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => describeResource(resource),
    },
    revocation: { enabled: true, allowedPolicy: mayAskOf },
    rpInitiatedLogout: { enabled: true, logoutSource: showLogout, postLogoutSuccessSource: showLoggedOut },
  },
  ttl: { AccessToken: config.accessTokenSeconds, ClientCredentials: config.accessTokenSeconds },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  findAccount: (ctx, sub) => {
    const person = config.people[sub]
    return person && { accountId: sub, claims: () => ({ sub, ...describe(sub, person) }) }
  },
  extraTokenClaims: (ctx, token) => {
    const person = config.people[token.accountId]
    if (!person) return undefined
    if (token.gty === TOKEN_EXCHANGE) {
      const { acr, auth_time } = ctx.state.subject
      return { ...describe(token.accountId, person), acr, auth_time, act: { sub: token.clientId } }
    }
    const { AuthorizationCode, DeviceCode, RefreshToken } = ctx.oidc.entities
    const login = AuthorizationCode ?? DeviceCode ?? RefreshToken
    return { ...describe(token.accountId, person), acr: login?.acr, auth_time: login?.authTime }
  },
  fetch: (url, { dispatcher, ...options }) => { // the dispatcher would refuse loopback
    const document = config.documents[url]
    return document ? Promise.resolve(Response.json(document)) : fetch(url, options)
  },
  interactions: { policy, url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const { client, session, params, resourceServers } = ctx.oidc
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope(params.scope ?? 'openid')
    for (const resource of Object.keys(resourceServers ?? {})) grant.addResourceScope(resource, scopes.join(' '))
    await grant.save()
    return grant // whoever logs in has consented
  },
})

// RFC 8693: a client that a person logged in to gets a token to act for them, for as long as their ID token is good.
provider.registerGrantType(TOKEN_EXCHANGE, async (ctx) => {
  const { client, params } = ctx.oidc
  if (params.subject_token_type !== ID_TOKEN) throw new errors.InvalidRequest('subject_token_type is not id_token')
  const { payload } = await provider.IdToken.validate(params.subject_token, client).catch(() => {
    throw new errors.InvalidGrant('subject_token is not an ID token for this client')
  })
  if (payload.exp * 1000 < Date.now()) throw new errors.InvalidGrant('subject_token has expired')
  ctx.state.subject = payload
  const resource = params.resource ?? config.audience
  const grant = new provider.Grant({ clientId: client.clientId, accountId: payload.sub })
  grant.addResourceScope(resource, scopes.join(' '))
  const token = new provider.AccessToken({
    accountId: payload.sub,
    client,
    grantId: await grant.save(),
    gty: TOKEN_EXCHANGE,
    scope: params.scope,
  })
  token.resourceServer = new provider.ResourceServer(resource, describeResource(resource))
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: ACCESS_TOKEN,
    token_type: token.tokenType,
    expires_in: token.expiration,
    scope: token.scope,
  }
}, ['subject_token', 'subject_token_type', 'resource', 'scope'])

function describe(login, person) {
  return {
    name: person.name,
    preferred_username: login,
    email: `${login}@example.test`,
    email_verified: true,
    groups: person.groups,
  }
}

function makePage(title, content) {
  return `<!doctype html><html lang="en"><title>${title}</title><main><h1>${title}</h1>${content}</main></html>`
}

function showLogout(ctx, form) {
  ctx.body = makePage('Log out', `${form}<button form="op.logoutForm" name="logout" value="yes">Log out</button>`)
}

function showLoggedOut(ctx) {
  ctx.body = makePage('Logged out', '<p>Nobody is logged in here now.</p>')
}

function showLogin(response, status, message, strong) {
  response.writeHead(status, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': "default-src 'none'",
  })
  response.end(makePage('Log in', `<p>${message}</p>
<form method="post"><label>User name <input name="login" autocomplete="username" required autofocus></label>
<label><input type="checkbox" name="second_factor"${strong ? ' checked' : ''}> With a second factor</label>
<button>Log in</button></form>`))
}

async function interact(request, response) {
  const { prompt, params } = await provider.interactionDetails(request, response)
  if (prompt.name === 'consent') return provider.interactionFinished(request, response, { consent: {} })
  const strong = params.acr_values?.split(' ').includes(TWO_FACTORS)
  if (request.method !== 'POST') return showLogin(response, 200, 'The name alone will do.', strong)
  let body = ''
  for await (const chunk of request) body += chunk
  const form = new URLSearchParams(body)
  const accountId = form.get('login')
  if (!Object.hasOwn(config.people, accountId)) return showLogin(response, 400, 'Nobody has that name.', strong)
  const second = form.has('second_factor')
  const login = { accountId, acr: second ? TWO_FACTORS : ONE_FACTOR, amr: second ? ['pwd', 'otp', 'mfa'] : ['pwd'] }
  return provider.interactionFinished(request, response, { login })
}

const answer = provider.callback()
createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response)
  return interact(request, response).catch((error) => {
    response.writeHead(error.statusCode ?? 500).end(error.message)
  })
}).listen(config.port, '127.0.0.1')
