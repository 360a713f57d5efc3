// Command client starts a run by gRPC, watches it to its end and prints its text and cost.
//
//	client localhost:7100 "Why do blind juries judge better?" [MAX_NANO_USD]
//
// Standard output has the text, standard error the events. The exit code is 1 when the run was refused or has no text.
// DJP_API_KEY has the key where one is asked for; DJP_TLS_CA, DJP_TLS_CERT and DJP_TLS_KEY name the files of TLS.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	djp "djp.example/client/gen/djp/v1"
)

const attempts = 5

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: client ADDRESS TASK [MAX_NANO_USD]")
		os.Exit(2)
	}
	request := &djp.RunRequest{Task: os.Args[2]}
	if len(os.Args) == 4 {
		most, err := strconv.ParseInt(os.Args[3], 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, "MAX_NANO_USD is a whole number:", err)
			os.Exit(2)
		}
		request.BudgetNanoUsd = &most
	}
	ctx := context.Background()
	if key := os.Getenv("DJP_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	run, err := carryOut(ctx, os.Args[1], request)
	if err != nil {
		fmt.Fprintf(os.Stderr, "refused: %s: %s\n", reason(err), status.Convert(err).Message())
		os.Exit(1)
	}
	text := run.GetResult().GetText()
	if text != "" {
		fmt.Println(text)
	}
	state := strings.TrimPrefix(run.GetState().String(), "RUN_STATE_")
	fmt.Fprintf(os.Stderr, "%s, cost: %d nano-dollars\n", state, run.GetResult().GetTotalNanoUsd())
	if failure := run.GetError(); failure != nil {
		why := strings.TrimPrefix(failure.GetReason().String(), "ERROR_REASON_")
		fmt.Fprintf(os.Stderr, "%s: %s\n", why, failure.GetMessage())
	}
	if text == "" {
		os.Exit(1)
	}
}

// transport is TLS with a certificate on both sides, or none where DJP_TLS_CA names no authority.
func transport() (credentials.TransportCredentials, error) {
	authority := os.Getenv("DJP_TLS_CA")
	if authority == "" {
		return insecure.NewCredentials(), nil
	}
	trusted, err := os.ReadFile(authority)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(trusted) {
		return nil, fmt.Errorf("DJP_TLS_CA: %s has no certificate", authority)
	}
	own, err := tls.LoadX509KeyPair(os.Getenv("DJP_TLS_CERT"), os.Getenv("DJP_TLS_KEY"))
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}), nil
}

// carryOut starts the run and follows its events to the terminal one, which carries the whole run.
func carryOut(ctx context.Context, address string, request *djp.RunRequest) (*djp.Run, error) {
	security, err := transport()
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(security))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	runs := djp.NewRunServiceClient(connection)

	// Sent again with the same RequestId, the call gets the first answer and starts no second run.
	start := &djp.StartRunRequest{RequestId: uuid.NewString(), Run: request}
	var started *djp.StartRunResponse
	for attempt := 1; ; attempt++ {
		started, err = runs.StartRun(ctx, start)
		if err == nil {
			break
		}
		if attempt == attempts || !passing(err) {
			return nil, err
		}
		time.Sleep(pause(attempt, err))
	}

	// A stream that breaks is taken up after the last number that was seen.
	watch := &djp.WatchRunRequest{RunId: started.GetRun().GetRunId()}
	for attempt := 1; ; attempt++ {
		before := watch.AfterSequence
		run, err := follow(ctx, runs, watch)
		if run != nil {
			return run, nil
		}
		if watch.AfterSequence > before {
			attempt = 1
		}
		if attempt == attempts || !passing(err) {
			return nil, err
		}
		time.Sleep(pause(attempt, err))
	}
}

// follow prints events until the terminal one or the stream's end, and counts them in watch.AfterSequence.
func follow(ctx context.Context, runs djp.RunServiceClient, watch *djp.WatchRunRequest) (*djp.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := runs.WatchRun(ctx, watch)
	if err != nil {
		return nil, err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, status.Error(codes.Unavailable, "the stream ended early")
		}
		if err != nil {
			return nil, err
		}
		event := answer.GetEvent()
		if event.GetSequence() <= watch.AfterSequence { // a heartbeat has no number
			continue
		}
		watch.AfterSequence = event.GetSequence()
		message := event.ProtoReflect()
		kind := message.WhichOneof(message.Descriptor().Oneofs().ByName("event"))
		fmt.Fprintln(os.Stderr, event.GetSequence(), kind.Name())
		if run := event.GetState().GetRun(); run != nil { // the terminal state has the whole run
			return run, nil
		}
	}
}

// passing tells the failures that say nothing against the request. A budget's refusal is none of them.
func passing(err error) bool {
	switch reason(err) {
	case "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RATE_LIMITED":
		return true
	}
	return false
}

// pause is how long to wait before the next attempt: at least as long as the gateway asks for.
func pause(attempt int, err error) time.Duration {
	wait := time.Duration(attempt) * 200 * time.Millisecond
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait = max(wait, info.GetRetryDelay().AsDuration())
		}
	}
	return wait
}

// reason is what an error is decided by: the gateway's own, or UNAVAILABLE and the like when it did not answer.
func reason(err error) string {
	told := status.Convert(err)
	for _, detail := range told.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	if told.Code() == codes.Internal { // as a stream is called that a proxy has cut; the gateway's own have an ErrorInfo
		return "UNAVAILABLE"
	}
	return code.Code(told.Code()).String()
}
