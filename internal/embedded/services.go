package embedded

import (
	"errors"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/metrics"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const (
	clusterName = "active"
	// historyShards is fixed for the life of a file, which keeps the number it was made with. With one connection to
	// SQLite more shards do not make more work at a time: measured, four are no faster, and now and then a client that
	// waits for a result was not woken (see tuning), which one shard never showed.
	historyShards = 1
)

// serverConfig has no metrics listener, no pprof, no HTTP API, no ringpop: only the four gRPC ports.
func serverConfig(p *servicePorts, db *config.SQL, shards int32) *config.Config {
	frontend := hostPort(p.frontend.port)
	return &config.Config{
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(p.frontend),
			string(primitives.HistoryService):  service(p.history),
			string(primitives.MatchingService): service(p.matching),
			string(primitives.WorkerService):   service(p.worker),
		},
		Persistence: config.Persistence{
			DefaultStore:     sqliteplugin.PluginName,
			VisibilityStore:  sqliteplugin.PluginName,
			NumHistoryShards: shards,
			DataStores:       map[string]config.DataStore{sqliteplugin.PluginName: {SQL: db}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		PublicClient:        config.PublicClient{HostPort: frontend},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: "disabled"},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		}},
	}
}

func service(r reservation) config.Service {
	return config.Service{RPC: config.RPC{GRPCPort: r.port, BindOnIP: loopback}}
}

func staticHosts(p *servicePorts) map[primitives.ServiceName]static.Hosts {
	return map[primitives.ServiceName]static.Hosts{
		primitives.FrontendService: static.SingleLocalHost(hostPort(p.frontend.port)),
		primitives.HistoryService:  static.SingleLocalHost(hostPort(p.history.port)),
		primitives.MatchingService: static.SingleLocalHost(hostPort(p.matching.port)),
		primitives.WorkerService:   static.SingleLocalHost(hostPort(p.worker.port)),
	}
}

// runServices builds and starts the server. It does so on a goroutine of its own, because a fatal error of the server
// reaches us only through its logger, which then ends the goroutine (see logger.Fatal).
func runServices(cfg *config.Config, settings dynamicconfig.StaticClient, p *servicePorts, logs *logger, m metrics.Handler) (stop func(), err error) {
	var srv temporal.Server
	err = errors.New("the server gave up")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer recoverFatal(logs)
		made, failed := temporal.NewServer(
			temporal.WithConfig(cfg),
			temporal.ForServices(temporal.DefaultServices),
			temporal.WithStaticHosts(staticHosts(p)),
			temporal.WithDynamicConfigClient(settings),
			temporal.WithLogger(logs),
			temporal.WithCustomMetricsHandler(m),
			temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
			temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
				return authorization.NewNoopClaimMapper()
			}),
		)
		if err = failed; err == nil { // else what was made cannot be stopped: it is a nil in disguise
			srv = made
			err = srv.Start()
		}
	}()
	<-done
	if fatal := logs.fatal(); fatal != nil {
		err = fatal
	}
	if err != nil {
		if srv != nil {
			_ = srv.Stop()
		}
		return nil, err
	}
	return func() { _ = srv.Stop() }, nil
}

// recoverFatal ends the panic that sync.OnceValue, in which the server opens its ports, makes of a goroutine's end.
// Any other panic goes on.
func recoverFatal(logs *logger) {
	if p := recover(); p != nil && logs.fatal() == nil {
		panic(p)
	}
}
