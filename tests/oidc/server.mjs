// A certified OpenID provider with a plain login page. Its one argument is a JSON file:
// {port, jwks, cookieKeys, clients, people: {login: {name, groups}}, audience, accessTokenSeconds}.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const issuer = `http://127.0.0.1:${config.port}`
const scopes = ['openid', 'profile', 'email', 'groups', 'offline_access']

const provider = new Provider(issuer, {
  clients: config.clients,
  jwks: config.jwks,
  cookies: { keys: config.cookieKeys },
  scopes,
  claims: {
    openid: ['sub'],
    profile: ['name', 'preferred_username', 'groups'],
    email: ['email'],
    groups: ['groups'],
  },
  conformIdTokenClaims: false, // the claims of a scope are in the ID token too, as most providers do it
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => config.audience,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        audience: resource,
        scope: scopes.join(' '),
        accessTokenFormat: 'jwt',
        accessTokenTTL: config.accessTokenSeconds,
        jwt: { sign: { alg: config.jwks.keys[0].alg } },
      }),
    },
    revocation: { enabled: true },
  },
  ttl: { AccessToken: config.accessTokenSeconds, ClientCredentials: config.accessTokenSeconds },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  findAccount: (ctx, sub) => {
    const person = config.people[sub]
    return person && { accountId: sub, claims: () => ({ sub, ...describe(sub, person) }) }
  },
  extraTokenClaims: (ctx, token) => {
    const person = config.people[token.accountId]
    const { AuthorizationCode, DeviceCode, RefreshToken } = ctx.oidc.entities
    const login = AuthorizationCode ?? DeviceCode ?? RefreshToken
    return person && { ...describe(token.accountId, person), auth_time: login?.authTime }
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const { client, session, params, resourceServers } = ctx.oidc
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope(params.scope ?? 'openid')
    for (const resource of Object.keys(resourceServers ?? {})) grant.addResourceScope(resource, scopes.join(' '))
    await grant.save()
    return grant // whoever logs in has consented
  },
})

function describe(login, person) {
  return {
    name: person.name,
    preferred_username: login,
    email: `${login}@example.test`,
    groups: person.groups,
  }
}

function showLogin(response, status, message) {
  response.writeHead(status, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': "default-src 'none'",
  })
  response.end(`<!doctype html><html lang="en"><title>Log in</title><main><h1>Log in</h1><p>${message}</p>
<form method="post"><label>User name <input name="login" autocomplete="username" required autofocus></label>
<button>Log in</button></form></main></html>`)
}

async function interact(request, response) {
  const { prompt } = await provider.interactionDetails(request, response)
  if (prompt.name === 'consent') return provider.interactionFinished(request, response, { consent: {} })
  if (request.method !== 'POST') return showLogin(response, 200, 'The name alone will do.')
  let body = ''
  for await (const chunk of request) body += chunk
  const login = new URLSearchParams(body).get('login')
  if (!Object.hasOwn(config.people, login)) return showLogin(response, 400, 'Nobody has that name.')
  return provider.interactionFinished(request, response, { login: { accountId: login, amr: ['pwd'] } })
}

const answer = provider.callback()
createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response)
  return interact(request, response).catch((error) => {
    response.writeHead(error.statusCode ?? 500).end(error.message)
  })
}).listen(config.port, '127.0.0.1')
