package embedded
import ("testing";"time";"os";"log/slog";"slices";"go.temporal.io/sdk/client";"strconv";"sync")
func TestZZTail(t *testing.T){
 shards,_ := strconv.Atoi(os.Getenv("SH")); n,_ := strconv.Atoi(os.Getenv("N")); cyc,_ := strconv.Atoi(os.Getenv("CYC"))
 if n==0 { t.Skip() }
 var wg sync.WaitGroup
 var mu sync.Mutex
 var took, starts, firsts []time.Duration
 for range cyc {
 func(){
 o := Options{InMemory: os.Getenv("FILE")=="", Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(os.Stderr,nil))}
 b0 := time.Now()
 s,err := start(t.Context(), o, int32(shards)); if err!=nil {t.Fatal(err)}
 st := time.Since(b0)
 defer s.Stop()
 c := dial(t,s); w := startWorker(t,c); defer w.Stop()
 for i := range n { b:=time.Now(); mustEcho(t,c,client.StartWorkflowOptions{}); d:=time.Since(b); mu.Lock(); took=append(took,d); if i==0 { starts=append(starts,st); firsts=append(firsts,time.Since(b0))}; mu.Unlock(); if d>500*time.Millisecond { t.Logf("%d at %s took %v", i, time.Now().Format("15:04:05.000"), d) } }
 c.Close()
 }() }
 wg.Wait()
 for _, x := range [][]time.Duration{took,starts,firsts} {
 slices.Sort(x); n:=len(x)
 t.Logf("n=%d p50=%v p90=%v p99=%v max=%v", n, x[n/2], x[n*9/10], x[n*99/100], x[n-1])
 }
}
