// GET /report/{id} in Go, with its standard library only: what one writes in an afternoon, and takes care of.
//
//	aggregator LISTEN ORIGIN LOG
//
// Three parts at once (goroutines, a WaitGroup, one shared client whose connections are kept), a deadline for each and one for
// the whole, bodies of bounded size, a request id for the parts, and one JSON line per request in a buffered access log.
// The parts are json.RawMessage: Marshal validates each and does not decode it. compare.sh builds and runs it.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	wholeTimeout = 2 * time.Second
	partTimeout  = time.Second
	partBytesMax = 1 << 20
	// More than 64 clients with three parts each need.
	idleMax = 512
	// A reader of the log waits so long at most.
	flushEvery = 500 * time.Millisecond
)

// report is the answer: its keys in this order.
type report struct {
	User        json.RawMessage `json:"user"`
	Orders      json.RawMessage `json:"orders"`
	Permissions json.RawMessage `json:"permissions"`
}

// line is what the access log says of a request: the fields that ringway's has.
type line struct {
	Time      string `json:"time"`
	Client    string `json:"client"`
	Method    string `json:"method"`
	Host      string `json:"host"`
	Path      string `json:"path"`
	Route     string `json:"route"`
	Status    int    `json:"status"`
	BytesOut  int    `json:"bytes_out"`
	TotalUs   int64  `json:"total_us"`
	RequestID string `json:"request_id"`
}

type accessLog struct {
	mutex sync.Mutex
	out   *bufio.Writer
	json  *json.Encoder
}

func openLog(path string) (*accessLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(file, 64<<10)
	return &accessLog{out: out, json: json.NewEncoder(out)}, nil
}

func (l *accessLog) write(entry *line) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if err := l.json.Encode(entry); err != nil {
		log.Fatalf("access log: %v", err)
	}
}

func (l *accessLog) flush() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if err := l.out.Flush(); err != nil {
		log.Fatalf("access log: %v", err)
	}
}

type aggregator struct {
	client *http.Client
	origin string
	log    *accessLog
	// Request ids: random for this process, then counted.
	idPrefix string
	idCount  atomic.Uint64
}

func (a *aggregator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	requestID := r.Header.Get("X-Request-Id")
	if requestID == "" {
		requestID = fmt.Sprintf("%s%016x", a.idPrefix, a.idCount.Add(1))
	}
	w.Header().Set("X-Request-Id", requestID)
	status, body := a.answer(r, requestID)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	a.log.write(&line{
		Time: start.UTC().Format("2006-01-02T15:04:05.000000Z"), Client: host, Method: r.Method, Host: r.Host,
		Path: r.URL.Path, Route: "report", Status: status, BytesOut: len(body),
		TotalUs: time.Since(start).Microseconds(), RequestID: requestID,
	})
}

func (a *aggregator) answer(r *http.Request, requestID string) (int, []byte) {
	id := strings.TrimPrefix(r.URL.Path, "/report/")
	if id == "" || strings.Contains(id, "/") {
		return failure(http.StatusNotFound)
	}
	if r.Method != http.MethodGet {
		return failure(http.StatusMethodNotAllowed)
	}
	ctx, cancel := context.WithTimeout(r.Context(), wholeTimeout)
	defer cancel()
	var answer report
	parts := [...]struct {
		name string
		into *json.RawMessage
		err  error
	}{{"user", &answer.User, nil}, {"orders", &answer.Orders, nil}, {"permissions", &answer.Permissions, nil}}
	var all sync.WaitGroup
	all.Add(len(parts))
	for i := range parts {
		part := &parts[i]
		go func() {
			defer all.Done()
			*part.into, part.err = a.fetch(ctx, a.origin+"/part/"+part.name+"/"+url.PathEscape(id), requestID)
			if part.err != nil {
				cancel() // the others are of no use any more
			}
		}()
	}
	all.Wait()
	for _, part := range parts {
		if errors.Is(part.err, context.DeadlineExceeded) {
			return failure(http.StatusGatewayTimeout)
		}
	}
	for _, part := range parts {
		if part.err != nil {
			return failure(http.StatusBadGateway)
		}
	}
	body, err := json.Marshal(&answer)
	if err != nil {
		return failure(http.StatusBadGateway)
	}
	return http.StatusOK, body
}

func (a *aggregator) fetch(ctx context.Context, target, requestID string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Request-Id", requestID)
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", target, answer.Status)
	}
	if answer.ContentLength > partBytesMax {
		return nil, fmt.Errorf("%s: too large", target)
	}
	if answer.ContentLength > 0 {
		body := make([]byte, answer.ContentLength)
		_, err = io.ReadFull(answer.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, partBytesMax+1))
	if len(body) > partBytesMax {
		return nil, fmt.Errorf("%s: too large", target)
	}
	return body, err
}

func failure(status int) (int, []byte) {
	return status, []byte(fmt.Sprintf(`{"code":%d,"message":%q,"data":null}`, status, http.StatusText(status)))
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: aggregator LISTEN ORIGIN LOG (ip:port, ip:port, path)")
	}
	access, err := openLog(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for range time.Tick(flushEvery) {
			access.flush()
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		access.flush()
		os.Exit(0)
	}()
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		log.Fatal(err)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: partTimeout}).DialContext,
		MaxIdleConns:        idleMax,
		MaxIdleConnsPerHost: idleMax,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // the parts are asked for as they are
	}
	mux := http.NewServeMux()
	mux.Handle("/report/", &aggregator{
		client: &http.Client{Transport: transport}, origin: "http://" + os.Args[2], log: access, idPrefix: hex.EncodeToString(random),
	})
	server := &http.Server{
		Addr: os.Args[1], Handler: mux,
		ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	log.Fatal(server.ListenAndServe())
}
